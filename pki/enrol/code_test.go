package enrol

import (
	"errors"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

func FuzzParseTicket(f *testing.F) {
	t := Ticket{EnrolURL: "https://hub:9445", Device: "e-1", Serial: "SN 1&2", Token: "s3cret-token"}
	f.Add(t.Text())
	f.Add("wardnet:1?e=x")
	f.Add("https://example.org/")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTicket(text)
		if err != nil {
			if !errors.Is(err, inventory.ErrInvalid) || (len(text) > 20 && strings.Contains(err.Error(), text)) {
				t.Fatalf("%q gave %v", text, err)
			}
			return
		}
		again, err := ParseTicket(got.Text())
		if err != nil || again != got {
			t.Fatalf("%q became %+v, then %+v, %v", text, got, again, err)
		}
	})
}
