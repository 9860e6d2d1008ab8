package tool

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"google.golang.org/grpc/peer"
	"pgregory.net/rapid"
)

var (
	to4 = asking{netip.MustParseAddr("192.0.2.1"), 0x1234, 0xfeedfacecafef00d}
	to6 = asking{netip.MustParseAddr("2001:db8::1"), 0x1234, 0xfeedfacecafef00d}
)

// packet is a request of a as it is on the wire.
func packet(t testing.TB, a asking, seq, size int) []byte {
	t.Helper()
	b, err := a.request(seq, size)
	if err != nil {
		t.Fatal(err)
	}
	if a.to.Is4() {
		h := make([]byte, 20)
		h[0], h[9] = 0x45, protoICMP
		copy(h[16:], a.to.AsSlice())
		return append(h, b...)
	}
	h := make([]byte, 40)
	h[0], h[6] = 0x60, protoICMPv6
	copy(h[24:], a.to.AsSlice())
	return append(h, b...)
}

func TestHearWhatRoutersSay(t *testing.T) {
	router := netip.MustParseAddr("192.0.2.254")
	for _, tc := range []struct {
		a     asking
		typ   icmp.Type
		code  int
		body  func(quote []byte) icmp.MessageBody
		state string
	}{
		{to4, ipv4.ICMPTypeTimeExceeded, 0, func(q []byte) icmp.MessageBody { return &icmp.TimeExceeded{Data: q} }, transit},
		{to4, ipv4.ICMPTypeDestinationUnreachable, 1, func(q []byte) icmp.MessageBody { return &icmp.DstUnreach{Data: q} }, "host unreachable"},
		{to4, ipv4.ICMPTypeDestinationUnreachable, 13, func(q []byte) icmp.MessageBody { return &icmp.DstUnreach{Data: q} }, "prohibited"},
		{to4, ipv4.ICMPTypeDestinationUnreachable, 15, func(q []byte) icmp.MessageBody { return &icmp.DstUnreach{Data: q} }, "unreachable, code 15"},
		{to4, ipv4.ICMPTypeDestinationUnreachable, 4, func(q []byte) icmp.MessageBody { return &icmp.DstUnreach{Data: q} }, "packet too big"},
		{to6, ipv6.ICMPTypeTimeExceeded, 0, func(q []byte) icmp.MessageBody { return &icmp.TimeExceeded{Data: q} }, transit},
		{to6, ipv6.ICMPTypeDestinationUnreachable, 0, func(q []byte) icmp.MessageBody { return &icmp.DstUnreach{Data: q} }, "net unreachable"},
		{to6, ipv6.ICMPTypePacketTooBig, 0, func(q []byte) icmp.MessageBody { return &icmp.PacketTooBig{MTU: 1280, Data: q} }, "packet too big, mtu 1280"},
		{to6, ipv6.ICMPTypeParameterProblem, 0, func(q []byte) icmp.MessageBody { return &icmp.ParamProb{Data: q} }, "parameter problem"},
	} {
		m := icmp.Message{Type: tc.typ, Code: tc.code, Body: tc.body(packet(t, tc.a, 7, 100))}
		b, err := m.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := tc.a.hear(router, b); !ok || h.seq != 7 || h.state != tc.state || h.from != router {
			t.Errorf("%v code %d: %+v, %t", tc.typ, tc.code, h, ok)
		}
		if tc.code == 4 && tc.a == to4 {
			binary.BigEndian.PutUint16(b[6:], 1400)
			if h, _ := tc.a.hear(router, b); h.state != "packet too big, mtu 1400" {
				t.Errorf("the next hop's MTU: %+v", h)
			}
		}
		for name, other := range map[string]asking{"another id": {tc.a.to, 0x4321, tc.a.nonce}, "another destination": {tc.a.to.Next(), tc.a.id, tc.a.nonce}} {
			if _, ok := other.hear(router, b); ok {
				t.Errorf("%v is taken for %s", tc.typ, name)
			}
		}
	}
}

// A reply answers us only from the destination, with our id and payload.
func TestHearReplies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom([]asking{to4, to6}).Draw(t, "a")
		seq, size := rapid.IntRange(1, 65535).Draw(t, "seq"), rapid.IntRange(0, 200).Draw(t, "size")
		b, err := a.request(seq, size)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := a.hear(a.to, b); ok {
			t.Fatal("our own request is taken for an answer")
		}
		b[0] = map[bool]byte{true: byte(ipv4.ICMPTypeEchoReply), false: byte(ipv6.ICMPTypeEchoReply)}[a.to.Is4()]
		if h, ok := a.hear(a.to, b); !ok || h.seq != seq || h.state != reached || h.bytes != size+8 {
			t.Fatalf("%+v, %t", h, ok)
		}
		if _, ok := a.hear(a.to.Next(), b); ok {
			t.Fatal("a stranger's reply")
		}
		if size >= 8 {
			b[8] ^= 1
			if _, ok := a.hear(a.to, b); ok {
				t.Fatal("another process's reply")
			}
		}
	})
}

func FuzzHear(f *testing.F) {
	f.Add(packet(f, to4, 1, 8))
	f.Add(append([]byte{3, 4, 0, 0, 0, 0, 5, 120}, packet(f, to4, 1, 8)...))
	f.Add(append([]byte{2, 0, 0, 0, 0, 0, 5, 120}, packet(f, to6, 1, 8)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, a := range []asking{to4, to6} {
			if h, ok := a.hear(a.to, b); ok && (h.seq < 0 || h.seq > 65535 || h.state == "") {
				t.Fatalf("%+v", h)
			}
		}
	})
}

// pcapFile is a file of packets of these lengths.
func pcapFile(order binary.AppendByteOrder, lengths []int) []byte {
	b := order.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, make([]byte, fileHeader-4)...)
	for _, n := range lengths {
		b = order.AppendUint32(append(b, make([]byte, 8)...), uint32(n))
		b = append(order.AppendUint32(b, uint32(n)), bytes.Repeat([]byte{7}, n)...)
	}
	return b
}

// Whatever pieces the stream comes in, what is given out is the file's
// beginning, ends at a record, and keeps the limit.
func TestRecordsAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.SampledFrom([]binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian}).Draw(t, "order")
		lengths := rapid.SliceOfN(rapid.IntRange(0, 1514), 0, 20).Draw(t, "lengths")
		file := pcapFile(order, lengths)
		r := &records{limit: rapid.IntRange(1, len(file)+100).Draw(t, "limit")}
		var got []byte
		for at := 0; at < len(file); {
			n := min(rapid.IntRange(1, 700).Draw(t, "piece"), len(file)-at)
			b, err := r.add(file[at : at+n])
			if err != nil {
				t.Fatal(err)
			}
			got, at = append(got, b...), at+n
		}
		want, packets := fileHeader, 0
		for _, n := range lengths {
			if want+recordHeader+n > r.limit {
				break
			}
			want, packets = want+recordHeader+n, packets+1
		}
		if !bytes.Equal(got, file[:want]) || r.packets != packets || r.bytes != want || r.full != (packets < len(lengths)) {
			t.Fatalf("%d bytes, %d packets, full %t; want %d, %d", len(got), r.packets, r.full, want, packets)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add(pcapFile(binary.LittleEndian, []int{60, 90}), 40)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		r := &records{limit: 1000}
		cut = min(max(cut, 0), len(b))
		x, err1 := r.add(b[:cut])
		if err1 != nil {
			return
		}
		y, err2 := r.add(b[cut:])
		if got := append(x, y...); err2 == nil && (!bytes.HasPrefix(b, got) || len(got) > max(r.limit, fileHeader)) {
			t.Fatalf("%d bytes of %d", len(got), len(b))
		}
	})
}

func TestTcpdumpsWords(t *testing.T) {
	c := &complaint{}
	for _, line := range []string{"tcpdump: listening on wan0, link-type EN10MB (Ethernet), snapshot length 96 bytes\n", "4 packets captured\n", "12 packets received by filter\n", "3 packets dropped by kernel\n"} {
		if n, err := c.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if c.dropped() != 3 || c.last() != "3 packets dropped by kernel" {
		t.Error(c.dropped(), c.last())
	}
	c = &complaint{}
	for range 100 {
		if _, err := c.Write(bytes.Repeat([]byte("x"), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if c.text.Len() != maxComplaint || c.dropped() != 0 {
		t.Error(c.text.Len())
	}
}

// Without the connection that the capture travels on: its packets would breed.
func TestCaptureLeavesItsOwnConnectionOut(t *testing.T) {
	ctx := peer.NewContext(t.Context(), &peer.Peer{
		Addr: &net.TCPAddr{IP: net.ParseIP("203.0.113.10"), Port: 9443}, LocalAddr: &net.TCPAddr{IP: net.ParseIP("198.19.66.130"), Port: 52169},
	})
	own := "host 203.0.113.10 and tcp port 9443 and tcp port 52169"
	if got := ownConnection(ctx); got != own {
		t.Errorf("%q", got)
	}
	if got := ownConnection(t.Context()); got != "" {
		t.Errorf("%q", got)
	}
	nets := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/20"), netip.MustParsePrefix("172.17.0.1/32")}
	for want, got := range map[string]string{
		"":                             joined("", nil, ""),
		"(icmp or udp)":                joined("icmp or udp", nil, ""),
		"not (" + own + ")":            joined("", nil, own),
		"(icmp) and not (" + own + ")": joined("icmp", nil, own),
		"(net 10.64.0.0/20 or net 172.17.0.1/32) and (icmp or udp) and not (" + own + ")": joined("icmp or udp", nets, own),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
