package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// verbs visits every command that does something, in order of its path.
func verbs(visit func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.HasSubCommands() {
				walk(sub)
			} else {
				visit(sub)
			}
		}
	}
	root := newRoot()
	root.InitDefaultHelpCmd()
	walk(root)
}

// withoutJSON are the verbs that print no result of their own.
var withoutJSON = map[string]string{
	"wardnet help": "prints help",
}

func TestEveryVerbExplainsItself(t *testing.T) {
	n := 0
	verbs(func(cmd *cobra.Command) {
		n++
		path := cmd.CommandPath()
		if !cmd.Runnable() {
			t.Errorf("%s has neither verbs nor anything to run", path)
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is %q; say what it does, without a full stop", path, cmd.Short)
		}
		if path != "wardnet help" {
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				if !strings.HasPrefix(line, "  "+path) && !strings.HasPrefix(line, "  age-keygen ") {
					t.Errorf("%s: example %q does not show it", path, line)
				}
			}
		}
		if _, without := withoutJSON[path]; (cmd.Flag("json") == nil) != without {
			t.Errorf("%s: --json is there: %v, want %v", path, !without, without)
		}
		cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s has no help", path, f.Name)
			}
		})
	})
	if n < 30 {
		t.Errorf("%d verbs found; the walk is broken", n)
	}
}

// TestExamplesParse holds the examples to the flags there are.
func TestExamplesParse(t *testing.T) {
	verbs(func(cmd *cobra.Command) {
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			words := strings.Fields(line)
			for _, w := range words {
				name, flag := strings.CutPrefix(w, "--")
				if flag && cmd.Flag(name) == nil {
					t.Errorf("%s: the example uses --%s, which is not there", cmd.CommandPath(), name)
				}
			}
		}
	})
}

func TestGoldenCLI(t *testing.T) {
	var b bytes.Buffer
	root := newRoot()
	about, _, _ := strings.Cut(root.Long, "\n\nExit codes")
	fmt.Fprintf(&b, "# The command line\n\nWritten by `go test ./cmd/wardnet -run Golden -update` from the commands themselves.\n\n%s\n", about)
	b.WriteString(`
Every verb answers with a table for people or, with ` + "`--json`" + `, with JSON: a list is
always an array, times are UTC in RFC 3339. Progress goes to standard error. An
error says what was being done, to what, and what to do next.

| exit code | means |
|---|---|
| 0 | done |
| 1 | failed: refused, not found, in conflict, not reachable |
| 2 | invalid input: nothing was changed, every fault is listed |
| 3 | held: a person must come first (an approval, an answer) |

## Flags of every command

`)
	flagTable(&b, root.PersistentFlags())
	b.WriteString("\n## Commands\n\n| command | does |\n|---|---|\n")
	verbs(func(cmd *cobra.Command) {
		if cmd.Name() != "help" {
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "-"), cmd.Short)
		}
	})
	verbs(func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		about := cmd.Long
		if about == "" {
			about = cmd.Short + "."
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n    %s\n\nExample:\n\n", cmd.CommandPath(), about, cmd.UseLine())
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			fmt.Fprintf(&b, "    %s\n", strings.TrimSpace(line))
		}
		if cmd.HasAvailableLocalFlags() {
			b.WriteString("\n")
			flagTable(&b, cmd.LocalNonPersistentFlags())
		}
	})
	golden(t, "cli.md", b.Bytes())
}

func flagTable(b *bytes.Buffer, flags *pflag.FlagSet) {
	b.WriteString("| flag | default | means |\n|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		kind, usage := pflag.UnquoteUsage(f)
		fmt.Fprintf(b, "| %s | %s | %s |\n", code(strings.TrimSpace("--"+f.Name+" "+kind)), code(strings.Trim(f.DefValue, "[]")), cell(usage))
	})
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + cell(s) + "`"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// TestGoldenMetrics writes down every metric of a controller that has just
// started, so that one that is not created at zero is missing here and noticed.
func TestGoldenMetrics(t *testing.T) {
	ctx := t.Context()
	cfg := Config{Data: t.TempDir(), Names: []string{"127.0.0.1"}}
	cfg.Listen = Listen{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"}
	cfg = cfg.withDefaults()
	l, err := bind(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	p, err := newPlane(ctx, cfg, l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	families, err := p.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	present := map[string]bool{}
	for _, f := range families {
		present[f.GetName()] = true
	}
	descs := make(chan *prometheus.Desc, 4096)
	p.reg.Describe(descs)
	close(descs)
	for d := range descs {
		if name := nameOf(d); !present[name] && !standard(name) {
			t.Errorf("%s is not there before its first event; create its labels at zero", name)
		}
	}
	var b bytes.Buffer
	b.WriteString(`# Metrics

Written by ` + "`go test ./cmd/wardnet -run Golden -update`" + ` from the registry of a controller
that has just started. Served at ` + "`/metrics`" + ` of the metrics listener (9464), together
with those of Prometheus' own libraries (` + "`go_*`, `process_*`, `prometheus_*`" + `). Labels are closed lists, there from the start at zero; a device is never a label. What devices
measure is not here but at ` + "`/federate`" + ` and in the history (` + "`/api/v1/query`" + `).

| metric | kind | labels | means |
|---|---|---|---|
`)
	for _, f := range families {
		if standard(f.GetName()) {
			continue
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labels(f), cell(f.GetHelp()))
	}
	golden(t, "metrics.md", b.Bytes())
}

// standard says that a metric is a library's, which may change with its release.
func standard(name string) bool {
	prefix, _, _ := strings.Cut(name, "_")
	return slices.Contains([]string{"go", "process", "prometheus"}, prefix)
}

func nameOf(d *prometheus.Desc) string {
	_, rest, _ := strings.Cut(d.String(), `fqName: "`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// labels lists every label of f with its values.
func labels(f *dto.MetricFamily) string {
	var names []string
	values := map[string][]string{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if !slices.Contains(names, l.GetName()) {
				names = append(names, l.GetName())
			}
			if v := values[l.GetName()]; !slices.Contains(v, l.GetValue()) {
				values[l.GetName()] = append(v, l.GetValue())
			}
		}
	}
	var out []string
	for _, n := range names {
		slices.Sort(values[n])
		out = append(out, n+": "+strings.Join(values[n], ", "))
	}
	return cell(strings.Join(out, "; "))
}
