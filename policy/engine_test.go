package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"github.com/wardnet/wardnet/inventory"
)

type memoryLog struct {
	fail error
	got  []Decision
}

func (m *memoryLog) Append(_ context.Context, _ Request, d Decision) error {
	m.got = append(m.got, d)
	return m.fail
}

var at = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

func testFacts() Facts {
	ok := DeviceFact{Site: "s-1", Certificate: "valid", Compliant: true, PostureSource: "controller", PostureAtNS: at.UnixNano()}
	return Facts{
		Revision: 7,
		Subjects: SubjectFacts([]Subject{
			{ID: "lan", Groups: []string{"clerks"}, Active: true},
			{ID: "minh", Groups: []string{"clerks"}},
			{ID: "hoa", Groups: []string{"gardeners"}, Active: true},
		}),
		Devices: map[inventory.DeviceID]DeviceFact{"edge-1": ok, "edge-2": {Certificate: "revoked", Compliant: true, PostureAtNS: at.UnixNano()}, "edge-3": {Certificate: "valid", Quarantined: true, PostureAtNS: at.Add(-time.Hour).UnixNano()}},
		Applications: ApplicationFacts(inventory.Inventory{
			Applications: []inventory.Application{{ID: "records", Sensitivity: inventory.High}, {ID: "portal", Sensitivity: inventory.Low}},
			Permits:      []inventory.Permit{{ID: "p1", From: []inventory.SegmentKind{inventory.Staff}, ToApp: "records"}, {ID: "p2", From: []inventory.SegmentKind{inventory.Staff, inventory.Kiosk}, ToApp: "portal"}},
		}),
	}
}

const testAccess = `{"posture": {"low": {"required": false, "max_age_seconds": 0, "ttl_seconds": 60}, "high": {"required": true, "max_age_seconds": 900, "ttl_seconds": 900}},
"rules": {"clerks": {"applications": ["records", "portal"], "groups": ["clerks"], "actions": ["connect"]}, "also-clerks": {"applications": ["portal"], "groups": ["clerks"], "actions": ["connect"]}}}`

func testEngine(t testing.TB, log Log) *Engine {
	t.Helper()
	files := fstest.MapFS{"access.json": {Data: []byte(testAccess)}}
	for _, n := range []string{"zerotrust.rego", "zerotrust_test.rego"} {
		b, err := builtin.ReadFile("rego/" + n)
		if err != nil {
			t.Fatal(err)
		}
		files[n] = &fstest.MapFile{Data: b}
	}
	b, err := ReadBundle(files)
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(t.Context(), Deps{Bundle: b, Log: log, Slog: slog.New(slog.NewTextHandler(t.Output(), nil))}, Config{Deadline: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDecideExplainsAndLogs(t *testing.T) {
	log := &memoryLog{}
	e := testEngine(t, log)
	if d := e.Decide(t.Context(), Request{Subject: "lan", At: at}); d.Allow || d.Code != CodeFactsNotAvailable {
		t.Fatalf("before the facts: %+v", d)
	}
	if err := e.SetFacts(t.Context(), testFacts()); err != nil {
		t.Fatal(err)
	}
	good := Request{Subject: "lan", Device: "edge-1", Segment: inventory.Staff, Application: "records", Action: "connect", At: at}
	d := e.Decide(t.Context(), good)
	if !d.Allow || d.Rule != "clerks" || d.TTL != 15*time.Minute || d.DataRev != 7 || d.ID == "" || d.PolicyRev == "" {
		t.Fatalf("allow: %+v", d)
	}
	bad := good
	bad.Subject, bad.Device = "hoa", "edge-2"
	d = e.Decide(t.Context(), bad)
	if d.Allow || d.Code != CodeCertificate || len(d.Reasons) != 2 || d.Reasons[1].Code != CodeGroup || d.Reasons[0].Remedy == "" || d.Reasons[1].Want != "clerks" {
		t.Fatalf("deny: %+v", d)
	}
	if len(log.got) != 3 {
		t.Fatalf("%d records, want 3", len(log.got))
	}
	log.fail = errors.New("disk full")
	if d := e.Decide(t.Context(), good); d.Allow || d.Code != CodeLogUnavailable {
		t.Fatalf("an answer that is not logged must be a denial: %+v", d)
	}
}

// twin is the policy said plainly in Go; the bundle must agree with it.
func twin(f Facts, r Request) bool {
	s, d, a := f.Subjects[r.Subject], f.Devices[r.Device], f.Applications[r.Application]
	entitled := s.Groups["clerks"] && r.Action == "connect" && (r.Application == "records" || r.Application == "portal")
	fresh := r.At.UnixNano()-d.PostureAtNS <= int64(900*time.Second) && r.At.UnixNano()-d.PostureAtNS >= -int64(time.Minute)
	return s.Active && d.Certificate == "valid" && !d.Quarantined && a.Segments[r.Segment] != "" && entitled &&
		(a.Sensitivity == inventory.Low || (d.Compliant && fresh))
}

func TestBundleAgreesWithItsTwin(t *testing.T) {
	e := testEngine(t, &memoryLog{})
	f := testFacts()
	if err := e.SetFacts(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := Request{
			Subject:     rapid.SampledFrom([]string{"lan", "minh", "hoa", "", "lan'; drop"}).Draw(rt, "subject"),
			Device:      rapid.SampledFrom([]inventory.DeviceID{"edge-1", "edge-1", "edge-2", "edge-3", ""}).Draw(rt, "device"),
			Segment:     rapid.SampledFrom(inventory.SegmentKinds).Draw(rt, "segment"),
			Application: rapid.SampledFrom([]inventory.ApplicationID{"records", "portal", "none"}).Draw(rt, "app"),
			Action:      rapid.SampledFrom([]string{"connect", "connect", "admin"}).Draw(rt, "action"),
			At:          at.Add(time.Duration(rapid.IntRange(-120, 1200).Draw(rt, "seconds")) * time.Second),
		}
		d := e.Eval(t.Context(), r)
		if d.Allow != twin(f, r) {
			rt.Fatalf("%+v: allow=%t, the twin says %t (%+v)", r, d.Allow, twin(f, r), d.Reasons)
		}
		if !d.Allow && (len(d.Reasons) == 0 || d.Code == CodeUndefined || d.Code == CodeEvaluationError) {
			rt.Fatalf("%+v: denied without a reason: %+v", r, d)
		}
		for _, x := range d.Reasons {
			if x.Remedy == "" || x.RemedyVI == "" {
				rt.Fatalf("reason %s has no remedy", x.Code)
			}
		}
	})
}

func TestBundleIsRefused(t *testing.T) {
	const pass = "package p\nimport rego.v1\ntest_x if true\n"
	for name, tt := range map[string]struct{ rego, want string }{
		"network":      {"package p\nx := http.send({\"url\": \"http://h\", \"method\": \"GET\"})\ntest_x if true\n", "builtin http.send is forbidden"},
		"clock":        {"package p\nx := time.now_ns()\ntest_x if true\n", "builtin time.now_ns is forbidden"},
		"randomness":   {"package p\nx := rand.intn(\"a\", 5)\ntest_x if true\n", "builtin rand.intn is forbidden"},
		"runtime":      {"package p\nx := opa.runtime()\ntest_x if true\n", "builtin opa.runtime is forbidden"},
		"syntax":       {"package p\nx := {\n", "p.rego:"},
		"no tests":     {"package p\nx := 1\n", "has no tests"},
		"failing test": {"package p\ntest_x if false\n", "test test_x failed"},
		"fine":         {pass, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadBundle(fstest.MapFS{"p.rego": {Data: []byte(tt.rego)}})
			switch {
			case tt.want == "" && err != nil:
				t.Fatal(err)
			case tt.want != "" && (!errors.Is(err, inventory.ErrInvalid) || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("got %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestBuiltinBundle(t *testing.T) {
	b, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if b.Tests < 15 {
		t.Fatalf("%d tests in the bundle", b.Tests)
	}
}

func TestFailClosedWithoutNeededDocument(t *testing.T) {
	b, err := ReadBundle(fstest.MapFS{"p.rego": {Data: []byte("package wardnet.zerotrust\nallow if input.subject == \"x\"\ngrant := {}\nreasons := []\ntest_a if true\n")}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(t.Context(), Deps{Bundle: b, Log: &memoryLog{}, Slog: slog.New(slog.DiscardHandler)}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SetFacts(t.Context(), testFacts()); err != nil {
		t.Fatal(err)
	}
	if d := e.Eval(t.Context(), Request{Subject: "y", At: at}); d.Allow || d.Code != CodeUndefined {
		t.Fatalf("undefined must deny with its own code: %+v", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d := e.Eval(ctx, Request{Subject: "x", At: at}); d.Allow {
		t.Fatalf("a cancelled evaluation must deny: %+v", d)
	}
}

func BenchmarkDecide(b *testing.B) {
	e := testEngine(b, &memoryLog{})
	if err := e.SetFacts(b.Context(), testFacts()); err != nil {
		b.Fatal(err)
	}
	for _, sub := range []string{"lan", "hoa"} {
		b.Run(fmt.Sprint(sub), func(b *testing.B) {
			for b.Loop() {
				e.Eval(b.Context(), Request{Subject: sub, Device: "edge-1", Segment: inventory.Staff, Application: "records", Action: "connect", At: at})
			}
		})
	}
}
