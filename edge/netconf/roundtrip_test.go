//go:build lab

package netconf

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/edge"
)

// The same on a real server, whose module checks the values. What was there
// before is gone.
func TestRoundTripOnTheServer(t *testing.T) {
	t.Parallel()
	b := box(t, newServer(t, "").config(nil))
	rapid.Check(t, func(r *rapid.T) {
		want := drawConfig(r, unquoted)
		if err := b.Write(t.Context(), edge.Config{}, want); err != nil {
			r.Fatal(err)
		}
		got, err := b.Read(t.Context(), edge.Config{})
		if err != nil {
			r.Fatal(err)
		}
		if change := edge.Diff(got, want); !change.Empty() {
			r.Fatalf("read back:\n%s", change)
		}
	})
}
