package linux

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/wardnet/wardnet/edge"
)

func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestGenerationTellsWhoChangedTheFilter(t *testing.T) {
	pid := binary.BigEndian.AppendUint32(nil, uint32(os.Getpid()))
	msg := append(make([]byte, nfgenmsgLen), attribute(1, []byte{0, 0, 0, 9})...)
	msg = append(msg, attribute(nftGenPID, pid)...)
	msg = append(msg, attribute(nftGenName, []byte("n\aft\x00"))...)
	who, ok := generation(unix.NFNL_SUBSYS_NFTABLES<<8|nftNewGen, msg)
	if !ok || !strings.HasPrefix(who, "process n?ft (pid ") {
		t.Errorf("generation() = %q, %v", who, ok)
	}
	for what, in := range map[string]struct {
		kind uint16
		data []byte
		ok   bool
	}{
		"another subsystem": {nftNewGen, msg, false},
		"another message":   {unix.NFNL_SUBSYS_NFTABLES<<8 | 6, msg, false},
		"cut short":         {unix.NFNL_SUBSYS_NFTABLES<<8 | nftNewGen, msg[:2], false},
		"no attributes":     {unix.NFNL_SUBSYS_NFTABLES<<8 | nftNewGen, msg[:4], true},
		"half an attribute": {unix.NFNL_SUBSYS_NFTABLES<<8 | nftNewGen, msg[:9], true},
	} {
		if _, ok := generation(in.kind, in.data); ok != in.ok {
			t.Errorf("%s: %v", what, ok)
		}
	}
}

func FuzzGeneration(f *testing.F) {
	f.Add(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|nftNewGen), append(make([]byte, 4), attribute(nftGenName, []byte("nft"))...))
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		if who, ok := generation(kind, data); !ok && who != "" {
			t.Errorf("no transaction, and yet %q", who)
		}
	})
}

func TestWhatOthersDid(t *testing.T) {
	diff := []string{
		"filter: the kernel runs another table than the configuration's", "links: up eth0", "routes: add 10.0.0.0/8", "rules: add",
		"routing: - neighbor 10.0.0.1", "tunnels: " + edge.ErrUnreachable.Error() + ": no process", "dns: other text",
	}
	got := byOthers(diff, false)
	if !slices.Equal(got, []string{diff[0], diff[3], diff[4], diff[6]}) {
		t.Errorf("byOthers() = %q", got)
	}
	if got := byOthers(diff, true); slices.Contains(got, diff[4]) {
		t.Errorf("a daemon that died is no drift: %q", got)
	}
}
