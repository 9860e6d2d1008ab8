package anomaly

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wardnet/wardnet/telemetry"
)

func TestEngineRoutesAndSeeds(t *testing.T) {
	var got []Finding
	reg := prometheus.NewPedanticRegistry()
	e, err := NewEngine(Deps{Emit: func(f Finding) { got = append(got, f) }, Reg: reg}, Config{MaxSeries: 3})
	if err != nil {
		t.Fatal(err)
	}
	send := func(metric, object string, v, s float64) {
		e.Observe(telemetry.Sample{Device: "d-1", Metric: metric, Object: object, Value: v, At: at(s)})
	}
	e.Tick(at(0))
	send(telemetry.CircuitUp, "c-1", 1, 0)
	send(telemetry.DeviceUp, "", 1, 0)
	send(telemetry.ConfigRevision, "", 7, 0) // nobody watches it
	send(telemetry.CircuitUp, "c-1", 0, 25)  // the device's clock is ahead: counts from now
	e.Tick(at(1))
	e.Tick(at(3))
	if len(got) != 1 || got[0].Kind != CircuitDown || !got[0].From.Equal(at(0)) {
		t.Fatalf("findings %+v", got)
	}
	send(telemetry.BFDUp, "a--b", 1, 3)
	send(telemetry.BFDUp, "c--d", 1, 3) // beyond the bound
	if n := testutil.ToFloat64(e.m.refused); n != 1 {
		t.Errorf("refused %v", n)
	}

	// A new process: the claim is known, so it clears and is not made twice.
	var after []Finding
	e2, err := NewEngine(Deps{Emit: func(f Finding) { after = append(after, f) }}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	e2.Seed(got)
	e2.Observe(telemetry.Sample{Device: "d-1", Metric: telemetry.CircuitUp, Object: "c-1", Value: 0, At: at(100)})
	e2.Tick(at(200))
	if len(after) != 0 {
		t.Fatalf("made again: %+v", after)
	}
	e2.Observe(telemetry.Sample{Device: "d-1", Metric: telemetry.CircuitUp, Object: "c-1", Value: 1, At: at(200)})
	e2.Tick(at(204))
	if len(after) != 1 || after[0].ID != got[0].ID || !after[0].To.Equal(at(200)) {
		t.Fatalf("cleared: %+v", after)
	}
}

func TestEngineTurnsCountersIntoRates(t *testing.T) {
	var got []Finding
	e, err := NewEngine(Deps{Emit: func(f Finding) { got = append(got, f) }}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	total := 5e9
	for i := range 400 {
		switch {
		case i == 200:
			total = 0 // the device began again
		case i < 300:
			total += 1e7
		} // then it stops
		e.Observe(telemetry.Sample{Device: "d", Metric: telemetry.InOctets, Object: "c", Value: total, At: start.Add(time.Duration(i) * 10 * time.Second)})
		e.Observe(telemetry.Sample{Device: "d", Metric: telemetry.InOctets, Object: "c--h", Value: total, At: start.Add(time.Duration(i) * 10 * time.Second)})
	}
	if len(got) != 1 || got[0].Kind != TrafficShift || got[0].Object != "c" || got[0].Actual != 0 || got[0].Expected < 9e5 {
		t.Fatalf("findings %+v", got)
	}
}

// docs/findings.md explains exactly the closed set.
func TestFindingsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []Kind
	for line := range strings.Lines(string(doc)) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			k, _, _ := strings.Cut(name, "`")
			listed = append(listed, Kind(k))
		}
	}
	if !slices.Equal(listed, Kinds) {
		t.Errorf("docs/findings.md lists %v, the code %v", listed, Kinds)
	}
}
