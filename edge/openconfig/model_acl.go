package openconfig

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// aclSet is /acl/acl-sets/acl-set.
type aclSet struct {
	Name   string   `json:"name"`
	Type   identity `json:"type"`
	Config struct {
		Name string   `json:"name"`
		Type identity `json:"type"`
	} `json:"config"`
	Entries struct {
		List []aclEntry `json:"acl-entry"`
	} `json:"acl-entries"`
}

type aclEntry struct {
	Sequence num `json:"sequence-id"`
	Config   struct {
		Sequence    num    `json:"sequence-id"`
		Description string `json:"description,omitempty"`
	} `json:"config"`
	IPv4      *match     `json:"ipv4,omitempty"`
	IPv6      *match     `json:"ipv6,omitempty"`
	Transport *transport `json:"transport,omitempty"`
	Actions   struct {
		Config struct {
			Forwarding identity `json:"forwarding-action"`
		} `json:"config"`
	} `json:"actions"`
	// Other are the leaves of the entry that we never write: with one of them
	// an entry means something else than it says.
	Other []string `json:"-"`
}

type match struct {
	Config struct {
		Source      ipPrefix `json:"source-address,omitempty"`
		Destination ipPrefix `json:"destination-address,omitempty"`
		Protocol    ipProto  `json:"protocol,omitempty"`
	} `json:"config"`
}

type transport struct {
	Config struct {
		Source      portSpan `json:"source-port,omitempty"`
		Destination portSpan `json:"destination-port,omitempty"`
		Mode        string   `json:"detail-mode,omitempty"`
		Builtin     string   `json:"builtin-detail,omitempty"`
	} `json:"config"`
}

// UnmarshalJSON reads the entry and notes in Other what the struct has no
// field for. Operational state and the defaults of the model are nothing.
func (e *aclEntry) UnmarshalJSON(b []byte) error {
	type plain aclEntry
	var p plain
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	written, err := json.Marshal(p)
	if err != nil {
		return err
	}
	var have, ours any
	if err := json.Unmarshal(b, &have); err != nil {
		return err
	}
	if err := json.Unmarshal(written, &ours); err != nil {
		return err
	}
	*e = aclEntry(p)
	e.Other = beyond(nil, "", have, ours)
	slices.Sort(e.Other)
	if t := e.Transport; t != nil && t.Config.Mode == "EXPLICIT" {
		t.Config.Mode = ""
	}
	e.Transport, e.IPv4, e.IPv6 = nonZero(e.Transport), nonZero(e.IPv4), nonZero(e.IPv6)
	return nil
}

func nonZero[T comparable](p *T) *T {
	var zero T
	if p != nil && *p == zero {
		return nil
	}
	return p
}

// beyond lists the leaves in have whose place ours does not have.
func beyond(out []string, at string, have, ours any) []string {
	m, ok := have.(map[string]any)
	if !ok {
		if ours == nil && !harmless(at, have) {
			out = append(out, fmt.Sprintf("%s=%v", strings.TrimPrefix(at, "/"), have))
		}
		return out
	}
	o, _ := ours.(map[string]any)
	for k, v := range m {
		if k != "state" {
			out = beyond(out, at+"/"+k, v, o[k])
		}
	}
	return out
}

// harmless are the model's defaults: with them an entry means the same.
func harmless(at string, v any) bool {
	s, _ := v.(string)
	switch at[strings.LastIndexByte(at, '/')+1:] {
	case "log-action":
		return bare(s) == "LOG_NONE"
	case "source-port", "destination-port":
		return s == "ANY"
	case "detail-mode", "explicit-detail-match-mode":
		return s == "EXPLICIT"
	}
	return false
}

// ipProto is an IP protocol: "IP_TCP", "IP_UDP", "IP_ICMP" or a number.
type ipProto string

const (
	protoTCP    ipProto = "IP_TCP"
	protoUDP    ipProto = "IP_UDP"
	protoICMP   ipProto = "IP_ICMP"
	protoICMPv6 ipProto = "58" // the model has no identity for it
)

var protoNumbers = map[string]ipProto{"1": protoICMP, "6": protoTCP, "17": protoUDP}

// UnmarshalJSON takes an identity or a number.
func (p *ipProto) UnmarshalJSON(b []byte) error {
	s := bare(strings.Trim(string(b), `"`))
	if name, ok := protoNumbers[s]; ok {
		*p = name
		return nil
	}
	*p = ipProto(s)
	return nil
}

// MarshalJSON writes an identity, or a number as one.
func (p ipProto) MarshalJSON() ([]byte, error) {
	if n, err := strconv.Atoi(string(p)); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal("openconfig-packet-match-types:" + string(p))
}

// portSpan is "993" or "8000..8010"; empty: any.
type portSpan string

func span(from, to uint16) portSpan {
	switch {
	case from == 0 && (to == 0 || to == 65535):
		return ""
	case from == to:
		return portSpan(strconv.Itoa(int(from)))
	}
	return portSpan(fmt.Sprintf("%d..%d", from, to))
}

func (s portSpan) ends() (from, to uint16, ok bool) {
	if s == "" {
		return 0, 0, true
	}
	a, b, two := strings.Cut(string(s), "..")
	if !two {
		b = a
	}
	x, err := strconv.ParseUint(a, 10, 16)
	if err != nil {
		return 0, 0, false
	}
	y, err := strconv.ParseUint(b, 10, 16)
	return uint16(x), uint16(y), err == nil
}

// UnmarshalJSON takes a number, a range or ANY.
func (s *portSpan) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "ANY" {
		text = ""
	}
	*s = portSpan(text)
	if from, to, ok := s.ends(); ok {
		*s = span(from, to)
	}
	return nil
}

// MarshalJSON writes one port as a number, a range as a string.
func (s portSpan) MarshalJSON() ([]byte, error) {
	if n, err := strconv.Atoi(string(s)); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal(string(s))
}

// binding is an entry of (in|e)gress-acl-sets of /acl/interfaces/interface.
type binding struct {
	Set    string   `json:"set-name"`
	Type   identity `json:"type"`
	Config struct {
		Set  string   `json:"set-name"`
		Type identity `json:"type"`
	} `json:"config"`
}
