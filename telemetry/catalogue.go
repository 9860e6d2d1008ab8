package telemetry

// Kind says how a metric behaves.
type Kind string

// Kinds of metric.
const (
	State   Kind = "state"   // 0 or 1, sent on change
	Gauge   Kind = "gauge"   // sampled
	Counter Kind = "counter" // sampled, only rises; stored raw, rates are computed at query
)

// Names of the catalogue's metrics.
const (
	CircuitUp        = "circuit_up"
	TunnelUp         = "tunnel_up"
	BGPUp            = "bgp_up"
	BFDUp            = "bfd_up"
	DeviceUp         = "device_up"
	DeviceStaleness  = "device_staleness_seconds"
	DeviceLag        = "device_lag_seconds"
	InOctets         = "interface_in_octets_total"
	OutOctets        = "interface_out_octets_total"
	InPkts           = "interface_in_pkts_total"
	OutPkts          = "interface_out_pkts_total"
	InErrors         = "interface_in_errors_total"
	OutDiscards      = "interface_out_discards_total"
	TunnelLoss       = "tunnel_loss_ratio"
	TunnelLatency    = "tunnel_latency_ms"
	TunnelJitter     = "tunnel_jitter_ms"
	ConfigRevision   = "config_revision"
	CredentialsEpoch = "credentials_epoch"
	ConfigChanges    = "config_changes"
)

// Metric is one line of the catalogue.
type Metric struct {
	Name string
	Kind Kind
	Unit string // "1" for a ratio or state; else bytes, packets, ms, s
	Help string
}

// Catalogue lists every device metric; a sample with another name is refused.
var Catalogue = []Metric{
	{CircuitUp, State, "1", "WAN circuit's oper-status: 1 up, 0 down. Object: circuit."},
	{TunnelUp, State, "1", "Overlay tunnel's oper-status: 1 up, 0 down. Object: tunnel."},
	{BGPUp, State, "1", "BGP session established. Object: the neighbour's address."},
	{BFDUp, State, "1", "BFD session up. Object: tunnel."},
	{DeviceUp, State, "1", "Telemetry session with the device is alive; made by the collector."},
	{DeviceStaleness, Gauge, "s", "Time since the device's last update; made by the collector."},
	{DeviceLag, Gauge, "s", "Receive time minus the device's timestamp of the last update; made by the collector."},
	{InOctets, Counter, "bytes", "Octets received. Object: circuit or tunnel."},
	{OutOctets, Counter, "bytes", "Octets sent. Object: circuit or tunnel."},
	{InPkts, Counter, "packets", "Packets received. Object: circuit or tunnel."},
	{OutPkts, Counter, "packets", "Packets sent. Object: circuit or tunnel."},
	{InErrors, Counter, "packets", "Packets received with errors. Object: circuit or tunnel."},
	{OutDiscards, Counter, "packets", "Packets discarded on output. Object: circuit or tunnel."},
	{TunnelLoss, Gauge, "1", "Packet loss of the tunnel, a ratio in [0,1]."},
	{TunnelLatency, Gauge, "ms", "Round-trip time through the tunnel."},
	{TunnelJitter, Gauge, "ms", "Jitter of the tunnel, peak to peak."},
	{ConfigRevision, Gauge, "1", "Revision in force on the device."},
	{CredentialsEpoch, Gauge, "1", "Epoch of the credentials in force on the device."},
	{ConfigChanges, Gauge, "1", "Times that what the device runs changed since its agent started, what it put back itself included."},
}

var byName = func() map[string]Metric {
	m := make(map[string]Metric, len(Catalogue))
	for _, c := range Catalogue {
		m[c.Name] = c
	}
	return m
}()

// Lookup returns the catalogue's line for a name.
func Lookup(name string) (Metric, bool) {
	m, ok := byName[name]
	return m, ok
}
