package openconfig

import (
	"testing"

	"github.com/wardnet/wardnet/edge"
)

// One read-back of a whole config, and one change of it, over TLS on loopback.
func BenchmarkBox(b *testing.B) {
	for _, name := range []string{"by the book", "scalar leaves, no Get"} {
		r := open(b, zoo[name])
		c, d := writable(), writable()
		d.Rules = d.Rules[1:]
		r.write(b, edge.Config{Device: c.Device}, c)
		b.Run("read/"+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.box.Read(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("write/"+name, func(b *testing.B) {
			for b.Loop() {
				if err := r.box.Write(b.Context(), c, d); err != nil {
					b.Fatal(err)
				}
				c, d = d, c
			}
		})
	}
}
