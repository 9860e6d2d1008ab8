package service

import (
	"strings"
	"testing"
	"time"
)

func FuzzLeases(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	f.Add("1800003600 02:00:00:00:00:06 10.64.0.101 * 01:02\n0 02:00:00:00:00:05 10.64.0.5 my-in *\n1700000000 02:00:00:00:00:07 10.64.0.7 * *\nduid 00:01\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseLeases(strings.NewReader(text), now)
		if err != nil {
			return
		}
		for i, l := range list {
			if !l.Addr.Is4() || l.Name == "*" || !l.Until.IsZero() && !l.Until.After(now) || i > 0 && l.Addr.Less(list[i-1].Addr) {
				t.Errorf("%q gives %+v", text, list)
			}
		}
	})
}

func TestParseLeases(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	list, err := parseLeases(strings.NewReader("1800003600 02:00:00:00:00:06 10.64.0.101 * 01:02\n0 02:00:00:00:00:05 10.64.0.5 my-in *\n1700000000 02:00:00:00:00:07 10.64.0.7 * *\nduid 00:01\n"), now)
	if err != nil || len(list) != 2 || list[0].Name != "my-in" || !list[0].Until.IsZero() || list[1].Until.Sub(now) != time.Hour {
		t.Errorf("got %+v, %v", list, err)
	}
}
