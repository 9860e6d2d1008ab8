package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/wardnet/wardnet/labs/demo"
)

// performance writes docs/performance.md beside the acceptance file, from the
// city's run that the checks measured: no figure in it is typed.
func performance(dir string, r Run, d *demo.Report) error {
	if d == nil {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Performance\n\nMeasured, not promised: written by `make accept PART=%s` from its run on %s at commit\n`%.12s` (%s; load %s when the demo started). Controller and all 208 edges share the machine.\n\n", r.Part, r.Date, r.Commit, r.Machine, d.Load)
	fmt.Fprintf(&b, "| what | measured | target |\n|---|---|---|\n")
	row := func(what, format string, v any, target string) {
		fmt.Fprintf(&b, "| %s | "+format+" | %s |\n", what, v, target)
	}
	row("import of the city, validated, addressed, durable", "%.2f s", d.Seconds.Import, "–")
	row("208 enrolments, connected", "%.1f s", d.Seconds.Enrol, "under 30 s")
	row("push to every site, hub waves and 4 ward waves", "%.1f s", d.Seconds.Push, "under 60 s")
	row("carrier cut at 12 wards → incident open", "%.1f s", d.Seconds.Detect, "under 30 s")
	row("healed → incident resolved by itself, all tunnels up", "%.1f s", d.Seconds.Resolve, "–")
	row("the whole story", "%.1f s", d.Seconds.Total, "under 180 s")
	row("controller, highest resident memory", "%d MB", d.RSSMB.Controller, "under 600 MB")
	row("all simulators together, highest resident memory", "%d MB", d.RSSMB.Sim, "–")
	row("telemetry samples stored during the story", "%d", d.Samples, "–")
	fmt.Fprintf(&b, "\n## Waves\n\n| wave | devices | seconds |\n|---|---|---|\n")
	for _, w := range d.Waves {
		fmt.Fprintf(&b, "| %s | %d | %.1f |\n", w.Name, w.Devices, w.Seconds)
	}
	fmt.Fprintf(&b, "\nA wave's time is mostly the tunnels' own: BFD and BGP must be up before the config is confirmed.\n`make bench` runs the micro-benchmarks.\n")
	return os.WriteFile(filepath.Join(dir, "performance.md"), []byte(b.String()), 0o644)
}
