package policy

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/wardnet/wardnet/inventory"
)

//go:embed rego
var builtin embed.FS

// Builtin is the bundle that ships with Wardnet.
func Builtin() (*Bundle, error) {
	sub, err := fs.Sub(builtin, "rego")
	if err != nil {
		return nil, fmt.Errorf("open the built-in bundle: %w", err)
	}
	return ReadBundle(sub)
}

// Bundle is a policy as it is shipped: Rego modules, their tests and the access
// data. It is compiled, and its own tests have passed, before it exists.
type Bundle struct {
	// Revision is the lower-case hex SHA-256 over every file's name and content.
	Revision string
	// Tests is how many of the bundle's own tests passed.
	Tests    int
	compiler *ast.Compiler
	data     map[string]any
}

// allowedBuiltins is all a bundle may call. Time comes from the input; network,
// runtime, randomness, clocks and tracing are left out, so that a decision is a
// function of its input and facts and can be replayed.
var allowedBuiltins = []string{
	"abs", "and", "array.concat", "array.reverse", "assign", "ceil", "concat", "contains", "count", "div", "endswith",
	"eq", "equal", "floor", "format_int", "glob.match", "graph.reachable", "gt", "gte", "indexof", "internal.member_2",
	"internal.member_3", "intersection", "is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set",
	"is_string", "json.filter", "json.remove", "lower", "lt", "lte", "max", "min", "minus", "mul", "neq",
	"net.cidr_contains", "net.cidr_intersects", "numbers.range", "object.filter", "object.get", "object.keys",
	"object.remove", "object.union", "or", "plus", "product", "regex.match", "rem", "replace", "round", "sort", "split",
	"sprintf", "startswith", "substring", "sum", "time.clock", "time.date", "time.parse_rfc3339_ns", "time.weekday",
	"to_number", "trim", "trim_space", "type_name", "union", "upper", "walk",
}

func capabilities() *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion()
	caps := &ast.Capabilities{Features: all.Features, FutureKeywords: all.FutureKeywords, AllowNet: []string{}}
	for _, b := range all.Builtins {
		if slices.Contains(allowedBuiltins, b.Name) {
			caps.Builtins = append(caps.Builtins, b)
		}
	}
	return caps
}

// ReadBundle compiles every *.rego of dir with restricted capabilities, loads
// access.json, and runs the bundle's own tests. It refuses, wrapping
// [inventory.ErrInvalid] and naming file and line, what does not compile, calls
// a forbidden builtin, fails a test or has none.
func ReadBundle(dir fs.FS) (*Bundle, error) {
	names, err := fs.Glob(dir, "*")
	if err != nil {
		return nil, fmt.Errorf("list the bundle: %w", err)
	}
	sort.Strings(names)
	sum := sha256.New()
	modules := map[string]*ast.Module{}
	data := map[string]any{}
	var faults []error
	for _, name := range names {
		if ext := path.Ext(name); ext != ".rego" && ext != ".json" {
			continue
		}
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, fmt.Errorf("read %s of the bundle: %w", name, err)
		}
		fmt.Fprintf(sum, "%s\n%d\n", name, len(text))
		sum.Write(text)
		if path.Ext(name) == ".json" {
			var v any
			if err := json.Unmarshal(text, &v); err != nil {
				faults = append(faults, fmt.Errorf("%w: %s: %w", inventory.ErrInvalid, name, err))
				continue
			}
			data[strings.TrimSuffix(name, ".json")] = v
			continue
		}
		m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: capabilities()})
		if err != nil {
			faults = append(faults, fmt.Errorf("%w: %w", inventory.ErrInvalid, err))
			continue
		}
		modules[name] = m
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	compiler := ast.NewCompiler().WithCapabilities(capabilities()).WithEnablePrintStatements(false)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, refused(compiler.Errors)
	}
	b := &Bundle{Revision: hex.EncodeToString(sum.Sum(nil)), compiler: compiler, data: data}
	if b.Tests, err = runTests(modules, data); err != nil {
		return nil, err
	}
	return b, nil
}

// refused names forbidden builtins as what they are; OPA says "undefined function".
func refused(errs ast.Errors) error {
	var out []error
	for _, e := range errs {
		if name, ok := strings.CutPrefix(e.Message, "undefined function "); ok {
			if _, exists := ast.BuiltinMap[name]; exists {
				out = append(out, fmt.Errorf("%w: %s:%d: builtin %s is forbidden in a policy bundle: a decision may use only its input and facts", inventory.ErrInvalid, e.Location.File, e.Location.Row, name))
				continue
			}
		}
		out = append(out, fmt.Errorf("%w: %w", inventory.ErrInvalid, e))
	}
	return errors.Join(out...)
}

func runTests(modules map[string]*ast.Module, data map[string]any) (int, error) {
	ctx := context.Background()
	store := inmem.NewFromObject(data)
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return 0, fmt.Errorf("test the bundle: %w", err)
	}
	defer store.Abort(ctx, txn)
	ch, err := tester.NewRunner().SetCompiler(ast.NewCompiler().WithCapabilities(capabilities())).
		SetStore(store).SetModules(modules).RunTests(ctx, txn)
	if err != nil {
		return 0, fmt.Errorf("%w: the bundle's tests do not run: %w", inventory.ErrInvalid, err)
	}
	n := 0
	var faults []error
	for r := range ch {
		if !r.Pass() {
			faults = append(faults, fmt.Errorf("%w: %s:%d: test %s failed (%v)", inventory.ErrInvalid, r.Location.File, r.Location.Row, r.Name, r.Error))
		}
		n++
	}
	if n == 0 {
		faults = append(faults, fmt.Errorf("%w: the bundle has no tests; a policy without tests is never in force", inventory.ErrInvalid))
	}
	return n, errors.Join(faults...)
}
