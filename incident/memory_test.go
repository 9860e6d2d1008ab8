package incident_test

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
)

// memory is a Store that keeps copies, as a database would.
type memory struct {
	mu   sync.Mutex
	docs []incident.Incident
	fail error
}

func (m *memory) Save(_ context.Context, changes []incident.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	for _, c := range changes {
		if c.Incident.ID == "" {
			c.Incident.ID = fmt.Sprintf("INC-%d-%06d", c.Incident.Opened.Year(), len(m.docs)+1)
			m.docs = append(m.docs, incident.Incident{ID: c.Incident.ID})
		}
		i := slices.IndexFunc(m.docs, func(d incident.Incident) bool { return d.ID == c.Incident.ID })
		doc := *c.Incident
		doc.Symptoms, doc.Timeline = m.docs[i].Symptoms, append(m.docs[i].Timeline, c.Entries...)
		for _, s := range c.Symptoms {
			if j := slices.IndexFunc(doc.Symptoms, func(x incident.Symptom) bool { return x.ID == s.ID }); j >= 0 {
				doc.Symptoms[j] = s
			} else {
				doc.Symptoms = append(doc.Symptoms, s)
			}
		}
		doc.Members = slices.Clone(doc.Members)
		m.docs[i] = doc
	}
	return nil
}

func (m *memory) List(_ context.Context, f incident.Filter) (out []incident.Incident, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range slices.Backward(m.docs) {
		if len(f.States) == 0 || slices.Contains(f.States, d.State) {
			out = append(out, d)
		}
	}
	return out, nil
}

func (m *memory) Get(_ context.Context, id string) (incident.Incident, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.docs {
		if d.ID == id {
			return d, nil
		}
	}
	return incident.Incident{}, fmt.Errorf("%w: incident %s", inventory.ErrNotFound, id)
}
