package frr

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const router = `bgp route-map delay-timer 1
!
router bgp 65001
 bgp router-id 172.16.0.7
 no bgp default ipv4-unicast
 timers bgp 10 30
 neighbor 172.17.0.1 remote-as 65000
 neighbor 172.17.0.1 description c-1--d-hub
 neighbor 172.17.0.1 bfd
 neighbor 172.17.0.1 bfd profile wn-300-3
 !
 address-family ipv4 unicast
  network 10.64.16.0/20
  neighbor 172.17.0.1 activate
  neighbor 172.17.0.1 prefix-list overlay in
  neighbor 172.17.0.1 route-map in4 in
  neighbor 172.17.0.1 route-map out4 out
 exit-address-family
exit
!
ip prefix-list overlay seq 5 deny 10.64.16.0/20 le 32
ip prefix-list overlay seq 10 permit 10.64.0.0/10 le 24
ip prefix-list own seq 5 permit 10.64.16.0/20
!
route-map in4 permit 10
 set local-preference 900
exit
!
route-map out4 permit 20
 match local-preference 900
exit
!
route-map out4 permit 10
 match ip address prefix-list own
exit
!
bfd
 profile wn-300-3
 exit
 !
 peer 172.17.0.1 local-address 172.17.0.0 interface wn0
  profile wn-300-3
 exit
 !
exit
!
`

func TestWhatARouterTakesAndAnnounces(t *testing.T) {
	r, err := Read(router)
	if err != nil {
		t.Fatal(err)
	}
	n := r.Neighbour(netip.MustParseAddr("172.17.0.1"))
	if n == nil || n.ASN != 65000 || !n.BFD || r.ASN != 65001 || !r.Originates(netip.MustParsePrefix("10.64.16.0/20")) {
		t.Fatalf("%+v", r)
	}
	for prefix, want := range map[string]bool{
		"10.64.32.0/20": true,
		"10.64.16.0/20": false, // denied before
		"10.64.17.0/24": false,
		"10.64.32.0/25": false, // longer than the list lets
		"10.128.0.0/20": false,
		"fd5a:1::/48":   false, // not active
	} {
		got, pref, why := r.Takes(n, netip.MustParsePrefix(prefix))
		if got != want || got && pref != 900 || !got && why.Text == "" {
			t.Errorf("takes %s: %v, preference %d, %+v", prefix, got, pref, why)
		}
	}
	for prefix, want := range map[string]bool{"10.64.16.0/20": true, "10.64.32.0/20": false} {
		if got, why := r.Announces(n, netip.MustParsePrefix(prefix), 100); got != want {
			t.Errorf("announces %s: %v, %+v", prefix, got, why)
		}
	}
	if got, why := r.Announces(n, netip.MustParsePrefix("10.64.32.0/20"), 900); !got || !strings.Contains(why.Text, "seq 20") {
		t.Errorf("by preference: %v, %+v", got, why)
	}
}

// What is not understood is an error with its line, all at once.
func TestReadRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, tt := range map[string]struct{ from, to, want string }{
		"a word":            {" timers bgp 10 30\n", " timers bgp 10 30\n neighbor 172.17.0.1 allowas-in\n", "line 7"},
		"a match":           {" match local-preference 900\n", " match metric 7\n", "match metric 7"},
		"a list that lacks": {"prefix-list overlay in", "prefix-list elsewhere in", "prefix-list elsewhere"},
		"a map that lacks":  {"route-map in4 in", "route-map in5 in", "route-map in5"},
		"no list at all":    {"  neighbor 172.17.0.1 prefix-list overlay in\n", "", "without a prefix list"},
		"an end too early":  {"bfd\n profile wn-300-3\n exit\n !\n", "bfd\n profile wn-300-3\n", "peer 172.17.0.1"},
		"a list's mask":     {"le 24", "ge 24", "ge 24"},
	} {
		_, err := Read(strings.Replace(router, tt.from, tt.to, 1))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	_, err := Read("router bgp 1\n one\n two\nexit\n")
	if err == nil || strings.Count(err.Error(), "not understood") != 2 {
		t.Errorf("two faults: %v", err)
	}
}

// A prefix list is read as FRR reads it: the first entry that matches decides,
// by the bits that are named and the length.
func TestListsAgreeWithTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		type entry struct {
			permit    bool
			p         netip.Prefix
			le        int
			bits, len int
		}
		var all []entry
		for i := range rapid.IntRange(1, 4).Draw(t, "entries") {
			bits := rapid.IntRange(0, 8).Draw(t, "bits")
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{rapid.Byte().Draw(t, "byte")}), bits).Masked()
			e := entry{rapid.Bool().Draw(t, "permit"), p, rapid.IntRange(bits, 10).Draw(t, "le"), bits, 0}
			action, le := "deny", ""
			if e.permit {
				action = "permit"
			}
			if e.le > bits {
				le = fmt.Sprintf(" le %d", e.le)
			}
			fmt.Fprintf(&text, "ip prefix-list x seq %d %s %s%s\n", 5*(i+1), action, p, le)
			all = append(all, e)
		}
		r, err := Read(text.String())
		if err != nil {
			t.Fatal(err)
		}
		bits := rapid.IntRange(0, 10).Draw(t, "length")
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{rapid.Byte().Draw(t, "first"), rapid.Byte().Draw(t, "second")}), bits).Masked()
		want := false
		for _, e := range all {
			a, b := uint32(p.Addr().As4()[0])<<8|uint32(p.Addr().As4()[1]), uint32(e.p.Addr().As4()[0])<<8|uint32(e.p.Addr().As4()[1])
			if same := a>>(16-e.bits) == b>>(16-e.bits); same && bits >= e.bits && bits <= e.le {
				want = e.permit
				break
			}
		}
		if got, _ := r.listed(false, "x", p, nil); got != want {
			t.Fatalf("%s: %v, want %v by\n%s", p, got, want, text.String())
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add(router)
	f.Add("route-map x permit 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Read(text)
		if err != nil {
			return
		}
		for _, n := range r.Neighbours {
			r.Takes(n, netip.MustParsePrefix("10.0.0.0/8"))
			r.Announces(n, netip.MustParsePrefix("fd00::/8"), 1)
		}
	})
}
