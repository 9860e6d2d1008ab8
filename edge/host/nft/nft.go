// Package nft drives the packet filter of a Linux box: one table that is
// replaced in one atomic transaction, and read back.
package nft

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wardnet/wardnet/edge/host/program"
	"github.com/wardnet/wardnet/inventory"
)

// Table is the only table we own.
const Table = "inet wardnet"

// limit bounds one call of nft; 300 rules take under 0.1 s.
const limit = 10 * time.Second

// Filter is the box's packet filter. Its methods are for one caller at a time.
type Filter struct {
	nft    string                 // absolute path
	record string                 // file that remembers what the kernel made of the text
	good   atomic.Pointer[string] // hash of the last text that passed Check
}

// loaded remembers one load: nft prints a table otherwise than it was written,
// so the two are bound by their hashes.
type loaded struct {
	Text    string `json:"text"`    // hex SHA-256 of the text that was loaded
	Listing string `json:"listing"` // hex SHA-256 of what nft listed right after
}

// Open finds nft. The record file lets a new process recognise the table it
// finds; without the file the next Load replaces the table once more.
func Open(record string) (*Filter, error) {
	path, err := program.Find("nft")
	if err != nil {
		return nil, fmt.Errorf("open packet filter: %w", err)
	}
	return &Filter{nft: path, record: record}, nil
}

// Check says whether the kernel would take text, changing nothing. The text is
// the whole table, so what the kernel took once it takes again: it is asked
// about a text once, unless it is asked about another between.
func (f *Filter) Check(ctx context.Context, text string) error {
	if strings.TrimSpace(text) == "" {
		return fmt.Errorf("check packet filter: %w: the text is empty, which would deny nothing", inventory.ErrInvalid)
	}
	sum := hash([]byte(text))
	if good := f.good.Load(); good != nil && *good == sum {
		return nil
	}
	if _, err := program.Run(ctx, limit, []byte(text), f.nft, "-c", "-f", "-"); err != nil {
		return fmt.Errorf("check packet filter: %w", err)
	}
	f.good.Store(&sum)
	return nil
}

// Load puts text in force in one transaction, unless it is in force already.
// On an error the old table is as it was. It says whether it replaced it.
func (f *Filter) Load(ctx context.Context, text string) (bool, error) {
	same, err := f.InForce(ctx, text)
	if err != nil || same {
		return false, err
	}
	if _, err := program.Run(ctx, limit, []byte(text), f.nft, "-f", "-"); err != nil {
		return false, fmt.Errorf("load packet filter: %w", err)
	}
	listing, err := f.list(ctx)
	if err != nil {
		return true, err
	}
	if listing == nil {
		return true, fmt.Errorf("load packet filter: %w: the text does not make table %s", inventory.ErrInvalid, Table)
	}
	b, err := json.Marshal(loaded{Text: hash([]byte(text)), Listing: hash(listing)})
	if err != nil {
		return true, fmt.Errorf("remember packet filter: %w", err)
	}
	// A torn or lost record costs one more load, so it is not synced.
	if err := os.WriteFile(f.record, b, 0o600); err != nil {
		return true, fmt.Errorf("remember packet filter: %w", err)
	}
	return true, nil
}

// InForce says whether the kernel runs just what text says: neither another
// text was loaded since, nor did anybody change the table.
func (f *Filter) InForce(ctx context.Context, text string) (bool, error) {
	listing, err := f.list(ctx)
	if err != nil || listing == nil {
		return false, err
	}
	b, err := os.ReadFile(f.record)
	if err != nil {
		return false, nil // not ours, or the record is lost: load again
	}
	var l loaded
	if json.Unmarshal(b, &l) != nil {
		return false, nil
	}
	return l.Text == hash([]byte(text)) && l.Listing == hash(listing), nil
}

// Present says whether the kernel has our table, whatever is in it.
func (f *Filter) Present(ctx context.Context) (bool, error) {
	listing, err := f.list(ctx)
	return listing != nil, err
}

// list returns the table without counters and without what sets learned at run
// time; nil when there is no such table.
func (f *Filter) list(ctx context.Context) ([]byte, error) {
	tables, err := program.Run(ctx, limit, nil, f.nft, "list", "tables", "inet")
	if err != nil {
		return nil, fmt.Errorf("read packet filter: %w", err)
	}
	if !hasLine(tables, "table "+Table) {
		return nil, nil
	}
	args := append([]string{"-s", "-n", "list", "table"}, strings.Fields(Table)...)
	out, err := program.Run(ctx, limit, nil, f.nft, args...)
	if err != nil {
		return nil, fmt.Errorf("read packet filter: %w", err)
	}
	return static(out)
}

// static drops the elements of sets that change by themselves: those with a
// timeout or filled by rules.
func static(listing []byte) ([]byte, error) {
	var out bytes.Buffer
	var block []string
	inSet, moving, inElements := false, false, false
	flush := func() {
		for _, line := range block {
			out.WriteString(line + "\n")
		}
		block, inSet, moving, inElements = nil, false, false, false
	}
	for _, line := range strings.Split(string(listing), "\n") {
		word := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(word, "set ") || strings.HasPrefix(word, "map "):
			flush()
			inSet = true
		case inSet && strings.HasPrefix(word, "flags ") && (strings.Contains(word, "timeout") || strings.Contains(word, "dynamic")):
			moving = true
		case inSet && moving && strings.HasPrefix(word, "elements = "):
			inElements = true
		}
		if inElements {
			inElements = !strings.HasSuffix(word, "}")
			continue
		}
		block = append(block, line)
		if inSet && word == "}" {
			flush()
		}
	}
	flush()
	if out.Len() == 0 {
		return nil, errors.New("read packet filter: nft listed nothing")
	}
	return out.Bytes(), nil
}

func hasLine(text []byte, want string) bool {
	for _, line := range strings.Split(string(text), "\n") {
		if strings.TrimSpace(line) == want {
			return true
		}
	}
	return false
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
