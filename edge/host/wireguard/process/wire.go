// Package process is the small process that hosts the userspace WireGuard
// devices of one box: `wardnet-edge wg`. It outlives the agent, so that an
// agent's upgrade loses no packet, and its TUN interfaces outlive it, so that
// addresses and routes survive its own death. It decides nothing: the driver in
// package wireguard tells it what to run over a unix socket.
package process

// Protocol is the version of the control protocol. A driver adopts a process
// of the same version, however old its build, and replaces any other. The
// operations hello and stop are the same in every version.
const Protocol = 1

// Socket is the name of the control socket in the run directory.
const Socket = "wg.sock"

// Operations of the protocol: one JSON value per line each way.
const (
	Hello  = "hello"  // who answers
	List   = "list"   // all devices
	Get    = "get"    // the device Name
	Set    = "set"    // create the device Name or change it by UAPI
	Delete = "delete" // the device Name and its interface; no device is no error
	Stop   = "stop"   // end the process; interfaces stay
)

// Request is one line from the driver.
type Request struct {
	Op   string `json:"op"`
	Name string `json:"name,omitempty"`
	MTU  int    `json:"mtu,omitempty"` // bytes; 0: as it is, or 1420 for a new device
	// UAPI is a change in WireGuard's cross-platform format; it may hold the
	// private key. Source: https://www.wireguard.com/xplatform/.
	UAPI string `json:"uapi,omitempty"`
}

// Reply is one line from the process.
type Reply struct {
	Error    string   `json:"error,omitempty"`
	Protocol int      `json:"protocol"`
	PID      int      `json:"pid"`
	Devices  []Device `json:"devices,omitempty"` // list and get
}

// Device is one device as it runs.
type Device struct {
	Name      string `json:"name"`
	MTU       int    `json:"mtu"`                  // bytes
	PublicKey string `json:"public_key,omitempty"` // base64; empty: it has no key yet
	// UAPI is the state in WireGuard's cross-platform format, without keys
	// that are secret.
	UAPI string `json:"uapi"`
}
