// Command gen writes the demo inventory out of two tables of facts:
//
//	go run ./inventory/sample/gen units.csv branches.csv >inventory/sample/hcmc.yaml
//
// units.csv has the columns code, name_vi, type, former_province, lat, lon and
// predecessors; branches.csv has model_no, former_district_unit,
// host_unit_code, lat and lon. Everything else is the model in model.go.
package main

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"io"
	"os"

	"github.com/wardnet/wardnet/inventory"
)

//go:embed header.txt
var header string

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: want the paths of units.csv and branches.csv", inventory.ErrInvalid)
	}
	units, err := rows(args[0])
	if err != nil {
		return err
	}
	branches, err := rows(args[1])
	if err != nil {
		return err
	}
	inv, err := model(units, branches)
	if err != nil {
		return err
	}
	if err := inventory.Validate(inv); err != nil {
		return err
	}
	if _, err := io.WriteString(out, header); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return inventory.Encode(out, inv)
}

// rows reads a CSV file into one map per row, by the names of its header.
func rows(path string) ([]map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(all) < 2 {
		return nil, fmt.Errorf("%w: %s has no rows", inventory.ErrInvalid, path)
	}
	out := make([]map[string]string, 0, len(all)-1)
	for _, rec := range all[1:] {
		row := make(map[string]string, len(rec))
		for i, name := range all[0] {
			row[name] = rec[i]
		}
		out = append(out, row)
	}
	return out, nil
}
