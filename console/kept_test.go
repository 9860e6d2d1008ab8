package console

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/sample"
	"github.com/wardnet/wardnet/pki"
)

// counting is a store that counts how often all of the inventory is read.
type counting struct {
	inventory.Store
	loads int
}

func (c *counting) Load(ctx context.Context) (inventory.Inventory, uint64, error) {
	c.loads++
	return c.Store.Load(ctx)
}

// The inventory is read once for each version, however often it is asked for,
// and another replica's version is seen.
func TestInventoryIsReadOncePerVersion(t *testing.T) {
	ctx, city := t.Context(), sample.City()
	s := &counting{Store: store.NewInventory(openDB(t), city.Org)}
	kept := AdaptInventory(s, city.Org, nil)
	look := func(version uint64, loads int) {
		t.Helper()
		kept.mu.Lock()
		if !kept.read.IsZero() {
			kept.read = kept.read.Add(-inventoryAge) // as if a second had passed
		}
		kept.mu.Unlock()
		if _, v, err := kept.Load(ctx); err != nil || v != version || s.loads != loads {
			t.Fatalf("version %d after %d loads, %v; want %d after %d", v, s.loads, err, version, loads)
		}
	}
	look(0, 1)
	look(0, 1)
	if _, err := s.Replace(ctx, 0, city); err != nil { // at another replica
		t.Fatal(err)
	}
	look(1, 2)
	look(1, 2)
}

func TestCertificatesAreReadOncePerMark(t *testing.T) {
	reads, mark := 0, "1"
	j := AdaptDevices(DeviceSources{
		Mark: func(context.Context) (string, error) {
			if mark == "" {
				return "", errors.New("no store")
			}
			return mark, nil
		},
		Certificates: func(context.Context) ([]pki.Certificate, error) {
			reads++
			return []pki.Certificate{{Device: "d-1", Serial: mark, Chain: "long", NotAfter: time.Now().Add(time.Hour)}}, nil
		},
	})
	for i, want := range []string{"1", "1", "2", "2"} {
		mark = want
		j.read = time.Time{} // as if a second had passed
		certs, err := j.validCerts(t.Context(), certAge)
		if err != nil || certs["d-1"].Serial != want || certs["d-1"].Chain != "" {
			t.Fatalf("look %d: %+v, %v", i, certs, err)
		}
	}
	if reads != 2 {
		t.Errorf("certificates were read %d times, want 2", reads)
	}
	mark, j.read = "", time.Time{}
	if _, err := j.validCerts(t.Context(), certAge); err == nil {
		t.Error("no error without a store")
	}
}
