package store

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
)

var _ incident.Store = (*Incidents)(nil)

// An incident is read back as it was saved, numbered by year, and its timeline
// only grows.
func TestIncidentsAreKept(t *testing.T) {
	at := time.Date(2026, 12, 31, 23, 59, 50, 7, time.UTC)
	for name, open := range engines(t) {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			s, ctx := NewIncidents(db, "hcmc"), t.Context()
			symptom := incident.Symptom{Site: "s-1", Finding: anomaly.Finding{
				Device: "d-1", Object: "c-1", Metric: "circuit_up", Kind: anomaly.CircuitDown, Severity: anomaly.Major, Expected: 1, Why: "vì đứt cáp", From: at,
			}.Identify()}
			entry := incident.Entry{At: at, Who: "wardnet", What: "opened", Text: "mở"}
			one := incident.Incident{
				Cause: incident.Cause{Kind: incident.CauseCarrier, ID: "vnpt"}, Confidence: 0.999, Title: map[string]string{"vi": "Nhà mạng", "en": "Carrier"},
				Severity: anomaly.Critical, SeverityWhy: "12 sites", State: incident.Open, Started: at, Opened: at,
				Members: []inventory.SiteID{"s-1", "s-2"}, Evidence: []string{"e"}, Suggested: []string{"gọi nhà mạng"},
			}
			two, three := one, one
			two.Opened, three.Opened = at.Add(5*time.Second), at.Add(time.Minute) // next year
			changes := []incident.Change{
				{Incident: &one, Symptoms: []incident.Symptom{symptom}, Entries: []incident.Entry{entry}}, {Incident: &two}, {Incident: &three},
			}
			if err := s.Save(ctx, changes); err != nil {
				t.Fatal(err)
			}
			if one.ID != "INC-2026-000001" || two.ID != "INC-2026-000002" || three.ID != "INC-2027-000001" {
				t.Fatalf("numbers %s %s %s", one.ID, two.ID, three.ID)
			}
			symptom.To = at.Add(time.Minute)
			one.State, one.Resolved, one.Reopened = incident.Resolved, at.Add(2*time.Minute), 1
			closed := incident.Entry{At: at.Add(2 * time.Minute), Who: "lan", What: "resolved"}
			if err := s.Save(ctx, []incident.Change{{Incident: &one, Symptoms: []incident.Symptom{symptom}, Entries: []incident.Entry{closed}}}); err != nil {
				t.Fatal(err)
			}
			want := one
			want.Symptoms, want.Timeline = []incident.Symptom{symptom}, []incident.Entry{entry, closed}
			if got, err := s.Get(ctx, one.ID); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("Get() = %+v, %v\nwant %+v", got, err, want)
			}
			list, err := s.List(ctx, incident.Filter{})
			if err != nil || len(list) != 3 || list[0].ID != three.ID || list[2].ID != one.ID || list[2].Symptoms != nil {
				t.Errorf("List() = %+v, %v", list, err)
			}
			if list, err = s.List(ctx, incident.Filter{States: []incident.State{incident.Open, incident.Acknowledged}, Since: two.Opened, Limit: 1}); err != nil || len(list) != 1 || list[0].ID != three.ID {
				t.Errorf("filtered List() = %+v, %v", list, err)
			}
			if _, err := s.Get(ctx, "INC-2026-000009"); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("unknown id: %v", err)
			}
			if list, err := NewIncidents(db, "other").List(ctx, incident.Filter{}); err != nil || len(list) != 0 {
				t.Errorf("another organisation sees %v, %v", list, err)
			}
			unknown := incident.Incident{ID: "INC-2026-000077"}
			if err := s.Save(ctx, []incident.Change{{Incident: &two, Entries: []incident.Entry{entry}}, {Incident: &unknown}}); !errors.Is(err, inventory.ErrNotFound) {
				t.Errorf("unknown incident: %v", err)
			}
			if got, err := s.Get(ctx, two.ID); err != nil || len(got.Timeline) != 0 {
				t.Errorf("half of a save was kept: %+v, %v", got, err)
			}
			for _, q := range []string{`UPDATE incident_timeline SET said = 'x'`, `DELETE FROM incident_timeline`} {
				if err := db.Write(ctx, func(tx *Tx) error { _, err := tx.Exec(q); return err }); err == nil {
					t.Errorf("%s was allowed", q)
				}
			}
		})
	}
}
