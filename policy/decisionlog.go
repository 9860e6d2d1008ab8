package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Record is one entry of the decision log. Records of one writer form a chain:
// Hash covers the record and the hash before it, so a change, a removal or a
// gap is seen by [VerifyChain].
type Record struct {
	Writer   string   `json:"writer"`
	Seq      uint64   `json:"seq"` // from 1, without gaps
	Prev     string   `json:"prev"`
	Hash     string   `json:"hash"` // lower-case hex SHA-256
	Request  Request  `json:"request"`
	Decision Decision `json:"decision"`
}

func (r Record) hash() (string, error) {
	r.Hash = ""
	b, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("hash decision %s: %w", r.Decision.ID, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// VerifyChain checks consecutive records of one writer, beginning after prev
// and seq; the error names the first record that does not fit.
func VerifyChain(prev string, seq uint64, records []Record) error {
	for _, r := range records {
		if r.Seq != seq+1 {
			return fmt.Errorf("%w: decision log of %s: after %d comes %d; records are missing", inventory.ErrInvalid, r.Writer, seq, r.Seq)
		}
		if r.Prev != prev {
			return fmt.Errorf("%w: decision log of %s: record %d does not follow its predecessor", inventory.ErrInvalid, r.Writer, r.Seq)
		}
		h, err := r.hash()
		if err != nil {
			return err
		}
		if h != r.Hash {
			return fmt.Errorf("%w: decision log of %s: record %d was changed", inventory.ErrInvalid, r.Writer, r.Seq)
		}
		prev, seq = r.Hash, r.Seq
	}
	return nil
}

// Query selects records, newest first; zero fields match everything.
type Query struct {
	Subject     string
	Device      string
	Application string
	Code        Code
	Allow       *bool
	From, To    time.Time
	Before      string // decision id, for the next page
	Limit       int    // default 100, at most 1000
}

// Records keeps the log. AppendDecisions returns when all of them survive
// power loss, or none is kept.
type Records interface {
	AppendDecisions(ctx context.Context, records []Record) error
	LastDecision(ctx context.Context, writer string) (Record, error) // ErrNotFound: empty chain
	Decision(ctx context.Context, id string) (Record, error)
	Decisions(ctx context.Context, q Query) ([]Record, error)
	CountDecisions(ctx context.Context) (allow, deny int64, err error)
}

// ChainLog is a Log over Records: one chain, and one durable transaction for
// all decisions that wait at the same moment.
type ChainLog struct {
	records Records
	writer  string

	mu      sync.Mutex // guards waiting and running
	waiting []*entry
	running bool
	seq     uint64
	prev    string
}

type entry struct {
	req  Request
	d    Decision
	done chan error
}

// OpenLog continues the chain of writer where it ended.
func OpenLog(ctx context.Context, records Records, writer string) (*ChainLog, error) {
	l := &ChainLog{records: records, writer: writer}
	return l, l.resume(ctx)
}

func (l *ChainLog) resume(ctx context.Context) error {
	last, err := l.records.LastDecision(ctx, l.writer)
	switch {
	case err == nil:
		l.seq, l.prev = last.Seq, last.Hash
	case errors.Is(err, inventory.ErrNotFound):
		l.seq, l.prev = 0, ""
	default:
		return fmt.Errorf("continue the decision log of %s: %w", l.writer, err)
	}
	return nil
}

// maxBatch bounds one transaction, so that the first caller does not wait long.
const maxBatch = 256

// Append implements [Log]. The caller that finds nobody writing writes for all
// who joined meanwhile.
func (l *ChainLog) Append(ctx context.Context, req Request, d Decision) error {
	e := &entry{req, d, make(chan error, 1)}
	l.mu.Lock()
	l.waiting = append(l.waiting, e)
	if !l.running {
		l.running = true
		go l.drain()
	}
	l.mu.Unlock()
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("log decision %s: %w", d.ID, context.Cause(ctx))
	}
}

func (l *ChainLog) drain() {
	for {
		l.mu.Lock()
		n := min(len(l.waiting), maxBatch)
		batch := l.waiting[:n:n]
		l.waiting = l.waiting[n:]
		if n == 0 {
			l.running = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		err := l.write(batch)
		for _, e := range batch {
			e.done <- err
		}
	}
}

// write runs in one goroutine at a time, so seq and prev need no lock.
func (l *ChainLog) write(batch []*entry) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	records, seq, prev := make([]Record, 0, len(batch)), l.seq, l.prev
	for _, e := range batch {
		r := Record{Writer: l.writer, Seq: seq + 1, Prev: prev, Request: e.req, Decision: e.d}
		h, err := r.hash()
		if err != nil {
			return err
		}
		r.Hash = h
		records, seq, prev = append(records, r), r.Seq, h
	}
	if err := l.records.AppendDecisions(ctx, records); err != nil {
		// The commit may have happened although its answer was lost: read again.
		if rerr := l.resume(ctx); rerr != nil {
			return fmt.Errorf("%w (and %w)", err, rerr)
		}
		return fmt.Errorf("append %d decisions: %w", len(batch), err)
	}
	l.seq, l.prev = seq, prev
	return nil
}
