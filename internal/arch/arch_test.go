package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goFiles walks the checkout's Go files, without build output and npm modules.
func goFiles(t *testing.T, visit func(rel, pkg string, src []byte, f *ast.File)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "node_modules" || n == "testdata" || (strings.HasPrefix(n, ".") && n != ".." && n != ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(rel), filepath.ToSlash(filepath.Dir(rel)), src, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// row finds the table's row for pkg: the longest listed folder that holds it.
func row(pkg string) (string, []string, bool) {
	for p := pkg; p != "."; p = filepath.ToSlash(filepath.Dir(p)) {
		if allowed, ok := mayImport[p]; ok {
			return p, allowed, true
		}
	}
	return "", nil, false
}

func allowedImport(pkg, imp string) bool {
	for _, own := range ownSubfolders {
		if (pkg == own || strings.HasPrefix(pkg, own+"/")) && (imp == own || strings.HasPrefix(imp, own+"/")) {
			return true
		}
	}
	_, allowed, ok := row(pkg)
	if !ok {
		return false
	}
	for _, a := range allowed {
		exact, only := strings.CutSuffix(a, "$")
		if imp == exact || (!only && strings.HasPrefix(imp, exact+"/")) {
			return true
		}
	}
	return false
}

func TestImportsFollowTheTable(t *testing.T) {
	goFiles(t, func(rel, pkg string, _ []byte, f *ast.File) {
		if strings.HasSuffix(rel, "_test.go") || strings.HasPrefix(pkg, "cmd/") {
			return
		}
		if _, _, ok := row(pkg); !ok {
			t.Errorf("%s: package %s has no row in the dependency table", rel, pkg)
			return
		}
		for _, spec := range f.Imports {
			imp, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if ours && !allowedImport(pkg, imp) {
				t.Errorf("%s imports %s, against the direction in table_test.go", rel, imp)
			}
		}
	})
}

func TestFilesAndInterfacesStaySmall(t *testing.T) {
	goFiles(t, func(rel, pkg string, src []byte, f *ast.File) {
		if slices.Contains(bannedNames, filepath.Base(pkg)) {
			t.Errorf("%s: name a package after what it provides", pkg)
		}
		if n := bytes.Count(src, []byte("\n")); n > maxLines && !ast.IsGenerated(f) {
			t.Errorf("%s: %d lines; split it by noun before %d", rel, n, maxLines)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxMethods {
				t.Errorf("%s: interface with %d methods, %d at most: split it by consumer", rel, i.Methods.NumFields(), maxMethods)
			}
			return true
		})
	})
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string]int{}
	goFiles(t, func(rel, pkg string, _ []byte, f *ast.File) {
		if strings.HasSuffix(rel, "_test.go") {
			return
		}
		comments[pkg] += 0
		if f.Doc != nil {
			comments[pkg]++
		}
	})
	for pkg, n := range comments {
		if n != 1 {
			t.Errorf("%s: %d package comments, want 1", pkg, n)
		}
	}
}

func TestEdgeBinaryStaysSmall(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/wardnet-edge")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for prefix, why := range notInEdge {
			if dep == prefix || strings.HasPrefix(dep, prefix+"/") {
				t.Errorf("wardnet-edge depends on %s: %s", dep, why)
			}
		}
	}
}

// The rules must bite: planted breaches are refused by the table's own logic.
func TestTheTableBites(t *testing.T) {
	for _, bad := range [][2]string{
		{"inventory", "controller"},
		{"edge/gnmi", "controller"},
		{"anomaly", "edge"},
		{"incident", "edge/channel"},
		{"edge/agent", "pki"},
		{"labs/sim", "controller"},
		{"telemetry", "internal/store"},
		{"console/client", "controller"},
	} {
		if allowedImport(bad[0], bad[1]) {
			t.Errorf("%s may import %s; it must not", bad[0], bad[1])
		}
	}
}
