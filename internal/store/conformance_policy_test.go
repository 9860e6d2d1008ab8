package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/policy"
)

func TestDecisionsKeepTheirChain(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			s := NewPolicy(db, "hcmc")
			if _, err := s.LastDecision(t.Context(), "w"); !errors.Is(err, inventory.ErrNotFound) {
				t.Fatalf("empty log: %v", err)
			}
			log, err := policy.OpenLog(t.Context(), s, "w")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now().UTC()
			var wg sync.WaitGroup
			for i := range 60 {
				wg.Go(func() {
					id := uuid.Must(uuid.NewV7())
					req := policy.Request{Subject: fmt.Sprintf("p%d", i%3), Device: "e1", Application: "records", At: start.Add(time.Duration(i) * time.Second)}
					if err := log.Append(t.Context(), req, policy.Decision{ID: id.String(), Allow: i%2 == 0, Code: policy.CodeAllowed}); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			no := false
			got, err := s.Decisions(t.Context(), policy.Query{Subject: "p1", Allow: &no, From: start, To: start.Add(time.Hour)})
			if err != nil || len(got) != 10 {
				t.Fatalf("%d decisions, %v; want 10", len(got), err)
			}
			if allow, deny, err := s.CountDecisions(t.Context()); allow != 30 || deny != 30 || err != nil {
				t.Errorf("counts %d %d %v", allow, deny, err)
			}
			all, err := s.Decisions(t.Context(), policy.Query{Limit: 1000})
			if err != nil || len(all) != 60 {
				t.Fatal(len(all), err)
			}
			bySeq := make([]policy.Record, len(all))
			for _, r := range all {
				bySeq[r.Seq-1] = r
			}
			if err := policy.VerifyChain("", 0, bySeq); err != nil {
				t.Error(err)
			}
			for _, change := range []string{"UPDATE decisions SET allow = 1", "DELETE FROM decisions"} {
				err := db.Write(t.Context(), func(tx *Tx) error { _, err := tx.Exec(change); return err })
				if err == nil || !strings.Contains(err.Error(), "append-only") {
					t.Errorf("%s: %v, want a refusal", change, err)
				}
			}
			// A second writer with the same sequence is a fork and is refused.
			if err := s.AppendDecisions(t.Context(), []policy.Record{{Writer: "w", Seq: 60, Decision: policy.Decision{ID: "x"}}}); err == nil {
				t.Error("a forked chain was accepted")
			}
		})
	}
}

func TestSubjectsAreReplacedWhole(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewPolicy(open(t), "hcmc")
			want := []policy.Subject{{ID: "a", Name: "Ánh", Groups: []string{"g1", "g2"}, Active: true}, {ID: "b", Groups: []string{}}}
			if err := s.ReplaceSubjects(t.Context(), append(want, policy.Subject{ID: "a"})); err == nil {
				t.Fatal("a duplicate was accepted")
			}
			if err := s.ReplaceSubjects(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			got, err := s.Subjects(t.Context())
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
}

func TestPosturesSurvive(t *testing.T) {
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			s := NewPolicy(open(t), "hcmc")
			at := time.Date(2026, 11, 22, 3, 0, 0, 123, time.UTC)
			first := map[inventory.DeviceID]policy.Posture{"d-1": {Compliant: true, Source: "controller", At: at}, "d-2": {Source: "controller", At: at}}
			second := map[inventory.DeviceID]policy.Posture{"d-2": {Compliant: true, Source: "controller", At: at.Add(time.Minute)}}
			for _, p := range []map[inventory.DeviceID]policy.Posture{first, second} {
				if err := s.SavePostures(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.Postures(t.Context())
			want := map[inventory.DeviceID]policy.Posture{"d-1": first["d-1"], "d-2": second["d-2"]}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%+v, %v; want %+v", got, err, want)
			}
		})
	}
}
