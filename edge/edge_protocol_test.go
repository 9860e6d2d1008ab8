package edge

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestCheckProtocol(t *testing.T) {
	for told, good := range map[int]bool{Protocol - 2: false, Protocol - 1: true, Protocol: true, Protocol + 1: true, Protocol + 2: false} {
		err := State{Protocol: told, Version: "9.1"}.CheckProtocol()
		var skew *ProtocolError
		switch {
		case good && err != nil:
			t.Errorf("protocol %d: %v", told, err)
		case !good && (!errors.Is(err, ErrRejected) || !errors.As(err, &skew) || skew.Agent != told || !strings.Contains(err.Error(), "upgrade the")):
			t.Errorf("protocol %d: %v, want a ProtocolError", told, err)
		}
	}
}

// TestNewFieldsAreLeftOutWhileEmpty: an agent of the protocol before refuses
// fields it does not know, so those added since are not there unless used. The
// lists are of protocol 0 and never grow.
func TestNewFieldsAreLeftOutWhileEmpty(t *testing.T) {
	for _, tt := range []struct {
		of    any
		first string
	}{
		{Signed{}, "device revision hash config key_id signature"},
		{Config{}, "device site role loopback circuits tunnels bgp rules contract"},
		{Circuit{}, "name kind up_bps mtu"},
		{Tunnel{}, "name kind circuit peer local remote allowed_ips mtu preference"},
		{Segment{}, "kind v4 v6"},
		{Rule{}, "permit src dst ports"},
		{Contract{}, "bfd prefixes"},
		{Credentials{}, "epoch at keys"},
	} {
		b, err := json.Marshal(tt.of)
		var got map[string]any
		if err == nil {
			err = json.Unmarshal(b, &got)
		}
		if err != nil {
			t.Fatal(err)
		}
		for name := range got {
			if !slices.Contains(strings.Fields(tt.first), name) {
				t.Errorf("%s: field %q is written while empty; give it omitempty or omitzero", reflect.TypeOf(tt.of), name)
			}
		}
	}
}
