package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/wardnet/wardnet/inventory"
)

type memoryRecords struct {
	mu   sync.Mutex
	rows []Record
	fail error
}

func (m *memoryRecords) AppendDecisions(_ context.Context, r []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.rows = append(m.rows, r...)
	return nil
}

func (m *memoryRecords) LastDecision(context.Context, string) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rows) == 0 {
		return Record{}, inventory.ErrNotFound
	}
	return m.rows[len(m.rows)-1], nil
}

func (m *memoryRecords) Decision(context.Context, string) (Record, error) { return Record{}, nil }

func (m *memoryRecords) Decisions(context.Context, Query) ([]Record, error) { return nil, nil }

func (m *memoryRecords) CountDecisions(context.Context) (allow, deny int64, err error) {
	return 0, 0, nil
}

func TestChainHoldsUnderConcurrencyAndFailure(t *testing.T) {
	rec := &memoryRecords{}
	log, err := OpenLog(t.Context(), rec, "w1")
	if err != nil {
		t.Fatal(err)
	}
	write := func(n int) (failed int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range n {
			wg.Go(func() {
				if err := log.Append(t.Context(), Request{Subject: "lan", At: at}, Decision{ID: fmt.Sprint(i)}); err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return failed
	}
	if n := write(500); n != 0 {
		t.Fatalf("%d failed", n)
	}
	rec.mu.Lock()
	rec.fail = errors.New("disk full")
	rec.mu.Unlock()
	if n := write(20); n != 20 {
		t.Fatalf("only %d of 20 were refused while the disk was full", n)
	}
	rec.mu.Lock()
	rec.fail = nil
	rec.mu.Unlock()
	if log, err = OpenLog(t.Context(), rec, "w1"); err != nil { // a restart continues the chain
		t.Fatal(err)
	}
	if n := write(100); n != 0 {
		t.Fatalf("%d failed", n)
	}
	if len(rec.rows) != 600 {
		t.Fatalf("%d records, want 600", len(rec.rows))
	}
	if err := VerifyChain("", 0, rec.rows); err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(rec.rows)
	changed[300].Decision.Allow = true
	if VerifyChain("", 0, changed) == nil {
		t.Error("a changed record must be seen")
	}
	if VerifyChain("", 0, slices.Delete(slices.Clone(rec.rows), 10, 11)) == nil {
		t.Error("a removed record must be seen")
	}
}
