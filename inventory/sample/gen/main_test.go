package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

const (
	unitsCSV = "code,name_vi,type,former_province,lat,lon,predecessors\n" +
		"26740,Phường Sài Gòn,phuong,Thành phố Hồ Chí Minh,10.780926,106.704180,\"Phường Bến Nghé, một phần (Phường Đa Kao, cũ), Phường Nguyễn Thái Bình\"\n" +
		"26732,Đặc khu Côn Đảo,dac_khu,Bà Rịa - Vũng Tàu,8.700043,106.610188,giữ nguyên\n"
	branchesCSV = "model_no,former_district_unit,host_unit_code,lat,lon\n1,Quận 1,26740,10.780926,106.704180\n"
)

func files(t *testing.T, units, branches string) []string {
	t.Helper()
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "units.csv"), filepath.Join(dir, "branches.csv")}
	for i, text := range []string{units, branches} {
		if err := os.WriteFile(paths[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func TestGenerates(t *testing.T) {
	var out bytes.Buffer
	if err := run(files(t, unitsCSV, branchesCSV), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "# Demo inventory") {
		t.Error("the sources are not named at the head")
	}
	inv, err := inventory.Decode("out.yaml", &out)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Profiles) != 3 {
		t.Errorf("profiles %v", inv.Profiles)
	}
	x := inv.Index()
	u, _ := x.Unit("u-26740")
	if want := []string{"Phường Bến Nghé", "một phần (Phường Đa Kao, cũ)", "Phường Nguyễn Thái Bình"}; !slices.Equal(u.Predecessors, want) {
		t.Errorf("predecessors %q, want %q", u.Predecessors, want)
	}
	s, _ := x.Site("s-26740")
	if s.Name != "Ủy ban nhân dân phường Sài Gòn" || len(inv.Sites) != 5 || len(x.SiteCircuits("s-26732")) != 1 {
		t.Errorf("site %q, %d sites, Côn Đảo has %v", s.Name, len(inv.Sites), x.SiteCircuits("s-26732"))
	}
}

func TestRefusesBadTables(t *testing.T) {
	for name, paths := range map[string][]string{
		"one path":     {"units.csv"},
		"unknown type": files(t, strings.Replace(unitsCSV, "dac_khu", "huyen", 1), branchesCSV),
		"no latitude":  files(t, strings.Replace(unitsCSV, "8.700043", "", 1), branchesCSV),
		"no rows":      files(t, "code\n", branchesCSV),
		"bad number":   files(t, unitsCSV, strings.Replace(branchesCSV, "1,Quận", "x,Quận", 1)),
		"foreign host": files(t, unitsCSV, strings.Replace(branchesCSV, "26740", "99999", 1)),
	} {
		if err := run(paths, &bytes.Buffer{}); !errors.Is(err, inventory.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
