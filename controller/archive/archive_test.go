package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/redact"
	"github.com/wardnet/wardnet/inventory"
)

// shelf is a store in memory; internal/store tests the real ones.
type shelf struct {
	versions []Version
	fail     error
}

func (s *shelf) Append(_ context.Context, v Version) error {
	if s.fail == nil {
		s.versions = append(s.versions, v)
	}
	return s.fail
}

func (s *shelf) Heads(context.Context, inventory.DeviceID) (out []Head, err error) {
	for _, v := range s.versions {
		out = append(out, v.Head)
	}
	return out, nil
}

func (s *shelf) Get(_ context.Context, _ inventory.DeviceID, n uint64) (Version, error) {
	for i := len(s.versions) - 1; i >= 0; i-- {
		if n == 0 || s.versions[i].N == n {
			return s.versions[i], nil
		}
	}
	return Version{}, inventory.ErrNotFound
}

func (s *shelf) Prune(_ context.Context, _ inventory.DeviceID, keep int) error {
	s.versions = s.versions[len(s.versions)-keep:]
	return nil
}

type rig struct {
	*Keeper
	shelf   *shelf
	audited []string
}

func newRig(t *testing.T, s *shelf) *rig {
	t.Helper()
	red, err := redact.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{shelf: s}
	r.Keeper, err = New(Deps{Store: s, Redactor: red, Audit: func(_ context.Context, what, object, reason string) {
		r.audited = append(r.audited, what+" "+object+" "+reason)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func document(n int) controller.Reading {
	return controller.Reading{Device: "d-1", Revision: 3, Hash: fmt.Sprint("h", n), Config: edge.Config{Device: "d-1", BGP: edge.BGP{ASN: uint32(n)}}, Source: controller.SourceReadBack, Complete: true}
}

func TestEachChangeIsOneVersion(t *testing.T) {
	s := &shelf{}
	r := newRig(t, s)
	for _, n := range []int{1, 1, 2, 2, 1} {
		if err := r.Keep(t.Context(), document(n)); err != nil {
			t.Fatal(err)
		}
	}
	r = newRig(t, s) // a restart knows the newest
	if err := r.Keep(t.Context(), document(1)); err != nil {
		t.Fatal(err)
	}
	if len(s.versions) != 3 || s.versions[2].N != 3 || s.versions[1].Hash != "h2" {
		t.Fatalf("kept %+v", s.versions)
	}
	a, b, text, err := r.Diff(t.Context(), "d-1", 0, 0)
	if err != nil || a.N != 2 || b.N != 3 || !strings.Contains(text, `-  "asn": 2`) || !strings.Contains(text, `+  "asn": 1`) {
		t.Errorf("Diff() = %v, %v, %q, %v", a, b, text, err)
	}
	if _, _, _, err := r.Diff(t.Context(), "d-1", 0, 1); !errors.Is(err, inventory.ErrNotFound) {
		t.Errorf("a difference to nothing: %v", err)
	}
}

func TestOddVersionsAreSaid(t *testing.T) {
	r := newRig(t, &shelf{})
	text := func(s string, complete bool) controller.Reading {
		x := document(1)
		x.Text, x.Complete = s, complete
		return x
	}
	long := strings.Repeat("interface eth0\n", 40)
	for _, x := range []controller.Reading{text(long, true), text(long, true), text(long[:400], false), text(long, true), text("interface eth0\n", true)} {
		if err := r.Keep(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	v := r.shelf.versions
	if len(v) != 4 || v[1].Note == "" || v[1].Complete || v[2].Note != "" || !strings.HasPrefix(v[3].Note, "shrank") {
		t.Fatalf("kept %+v", v)
	}
	if len(r.audited) != 2 || !strings.HasPrefix(r.audited[0], "archive.incomplete d-1") || !strings.HasPrefix(r.audited[1], "archive.collapsed d-1") {
		t.Errorf("audited %q", r.audited)
	}
	if n := testutil.ToFloat64(r.odd.WithLabelValues(oddCollapsed)); n != 1 {
		t.Errorf("%v collapses counted", n)
	}
}

func TestSecretsNeverReachTheStore(t *testing.T) {
	r := newRig(t, &shelf{})
	x := document(1)
	x.Text = "router bgp 65001\n neighbor 10.0.0.1 password hunter2\n"
	if err := r.Keep(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	x.Text = "router bgp 65001\n neighbor 10.0.0.1 password hunter3\n"
	if err := r.Keep(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	_, _, diff, err := r.Diff(t.Context(), "d-1", 0, 0)
	if err != nil || strings.Contains(diff, "hunter") || strings.Count(diff, "<redacted-") != 2 {
		t.Errorf("a changed secret must show and not be told: %q, %v", diff, err)
	}
}

func TestAFailedStoreIsTriedAgain(t *testing.T) {
	s := &shelf{fail: errors.New("disk full")}
	r := newRig(t, s)
	if err := r.Keep(t.Context(), document(1)); err == nil {
		t.Fatal("the failure was swallowed")
	}
	s.fail = nil
	if err := r.Keep(t.Context(), document(1)); err != nil || len(s.versions) != 1 {
		t.Errorf("not kept after the failure: %v, %d", err, len(s.versions))
	}
}
