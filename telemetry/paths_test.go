package telemetry

import (
	"testing"

	gpb "github.com/openconfig/gnmi/proto/gnmi"
	"pgregory.net/rapid"
)

// path parses /a[k=v]/b; tests only.
func path(origin string, elems ...any) *gpb.Path {
	p := &gpb.Path{Origin: origin}
	for _, e := range elems {
		switch e := e.(type) {
		case string:
			p.Elem = append(p.Elem, &gpb.PathElem{Name: e})
		case [3]string:
			p.Elem = append(p.Elem, &gpb.PathElem{Name: e[0], Key: map[string]string{e[1]: e[2]}})
		}
	}
	return p
}

func ifPath(name string, rest ...any) *gpb.Path {
	return path(originOpenConfig, append([]any{"interfaces", [3]string{"interface", "name", name}, "state"}, rest...)...)
}

func TestResolve(t *testing.T) {
	for name, tt := range map[string]struct {
		in   *gpb.Path
		want leaf
		none bool
	}{
		"circuit": {in: ifPath("c-1", "oper-status"), want: leaf{CircuitUp, "c-1", "UP"}},
		"tunnel":  {in: ifPath("c-1--d-hub", "oper-status"), want: leaf{TunnelUp, "c-1--d-hub", "UP"}},
		"counter": {in: ifPath("c-1", "counters", "out-discards"), want: leaf{metric: OutDiscards, object: "c-1"}},
		"bgp": {in: path(originOpenConfig, "network-instances", [3]string{"network-instance", "name", "default"}, "protocols", "protocol", "bgp",
			"neighbors", [3]string{"neighbor", "neighbor-address", "172.16.0.1"}, "state", "session-state"), want: leaf{BGPUp, "172.16.0.1", "ESTABLISHED"}},
		"bfd":             {in: path(originOpenConfig, "bfd", "interfaces", [3]string{"interface", "id", "t--h"}, "peers", "peer", "state", "session-state"), want: leaf{BFDUp, "t--h", "UP"}},
		"loss":            {in: path(originState, "tunnels", [3]string{"tunnel", "name", "t--h"}, "state", "loss-ratio"), want: leaf{metric: TunnelLoss, object: "t--h"}},
		"revision":        {in: path(originState, "device", "state", "revision"), want: leaf{metric: ConfigRevision}},
		"unknown counter": {in: ifPath("c-1", "counters", "in-giants"), none: true},
		"foreign origin":  {in: path("cisco", "interfaces", [3]string{"interface", "name", "c"}, "state", "oper-status"), none: true},
		"empty":           {in: &gpb.Path{}, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := resolve(tt.in.Origin, tt.in.Elem)
			if ok == tt.none || ok && got != tt.want {
				t.Errorf("resolve = %+v %v, want %+v", got, ok, tt.want)
			}
		})
	}
}

func drawElems(t *rapid.T, label string) []*gpb.PathElem {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *gpb.PathElem {
		return &gpb.PathElem{
			Name: rapid.StringMatching(`[ab]{0,2}`).Draw(t, "name"),
			Key:  rapid.MapOfN(rapid.StringMatching(`[kl]`), rapid.StringMatching(`[xy]{0,2}`), 0, 2).Draw(t, "key"),
		}
	}), 0, 3).Draw(t, label)
}

// Two paths hash alike, wherever they are split into prefix and path, exactly
// when they are the same path.
func TestHashPathMeansSamePath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawElems(t, "a"), drawElems(t, "b")
		i, j := rapid.IntRange(0, len(a)).Draw(t, "i"), rapid.IntRange(0, len(b)).Draw(t, "j")
		if !samePath(a, a[:i], a[i:]) {
			t.Fatal("a path differs from itself")
		}
		same := samePath(a, b[:j], b[j:])
		if equal := hashPath("o", a[:i], a[i:]) == hashPath("o", b[:j], b[j:]); equal != same {
			t.Fatalf("same path %v, same hash %v: %v %v", same, equal, a, b)
		}
	})
}

func TestSamePathTellsAnEmptyKeyFromAnAbsentOne(t *testing.T) {
	a, b := path("", [3]string{"a", "k", ""}), path("", [3]string{"a", "l", ""})
	if samePath(a.Elem, nil, b.Elem) {
		t.Errorf("samePath(%v, %v) = true", a, b)
	}
}

func TestHashPathBuildsNoStrings(t *testing.T) {
	prefix, p := path(originOpenConfig), ifPath("c-1", "counters", "in-octets")
	if n := testing.AllocsPerRun(100, func() { hashPath(originOpenConfig, prefix.Elem, p.Elem) }); n != 0 {
		t.Errorf("%v allocations per path", n)
	}
}

func TestRingKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRing(rapid.IntRange(1, 5).Draw(t, "size"), make(chan struct{}, 1))
		var want []float64
		next := 0.0
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				next++
				want = append(want, next)
				dropped := r.put(Sample{Value: next})
				if dropped != (len(want) > len(r.buf)) {
					t.Fatalf("dropped %v with %d waiting of %d", dropped, len(want), len(r.buf))
				}
				want = want[max(0, len(want)-len(r.buf)):]
				continue
			}
			got := r.take(make([]Sample, 0, rapid.IntRange(1, 4).Draw(t, "n")))
			for i, s := range got {
				if s.Value != want[i] {
					t.Fatalf("took %v, want %v", got, want)
				}
			}
			want = want[len(got):]
		}
		if r.len() != len(want) {
			t.Fatalf("%d left, want %d", r.len(), len(want))
		}
	})
}
