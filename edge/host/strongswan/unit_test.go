package strongswan

import (
	"context"
	"testing"
	"time"

	"github.com/wardnet/wardnet/edge/render"
)

func TestMessage(t *testing.T) {
	m := new(message).set("a", "1").section(render.IPsecSection{
		Name:     "conn",
		Values:   []render.IPsecValue{{Key: "l", List: true, Items: []string{"x", "y"}}, {Key: "cacerts", List: true, Items: []string{"devices.pem"}}},
		Sections: []render.IPsecSection{{Name: "children", Values: []render.IPsecValue{{Key: "mode", Items: []string{"tunnel"}}}}},
	}, []string{"PEM"})
	s, err := parse(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c := s.sub("conn")
	if s.values["a"] != "1" || len(c.lists["l"]) != 2 || c.lists["cacerts"][0] != "PEM" || c.sub("children").values["mode"] != "tunnel" {
		t.Errorf("read back %+v", c)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(new(message).set("key", "value").list("l", "a", "b").Bytes())
	f.Add([]byte{sectionStart, 1, 'x', keyValue, 1, 'k', 0, 9, 'v'})
	f.Add([]byte{listStart, 1, 'x', listItem, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parse(b); err == nil && s == nil {
			t.Error("no error and no message")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("opened without a run directory")
	}
}

func TestNoCharonIsUnreachable(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := (charon{dir: t.TempDir()}).stop(ctx); err != nil {
		t.Errorf("stopping nothing: %v", err)
	}
}
