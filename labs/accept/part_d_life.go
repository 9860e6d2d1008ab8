package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// partDLife are the checks of what becomes of certificates.
var partDLife = []check{
	{"return-208", "eight days without a controller, in simulated time: 208 devices return at a bounded rate, none in quarantine; dark ones do go there", pkiTests("TestTheWholeCityReturns|TestDarkForSixtyDays|TestSweep|TestSlots", "./pki")},
	{"bad-input", "tokens, CSRs, clocks, proofs and certificates that are no good: one clear reason each, and the whole of it in the audit log", pkiTests("TestBadInput|TestNobodyGetsIn|TestClockSkew|TestRenewalWithAnyClock|TestOffline|TestTicket", "./pki")},
	{"keys-tpm", "a device key in a TPM 2.0 (swtpm), which another TPM does not sign with", labTests("./pki/tpmkey", "TestKeysStay|TestNoTPM")},
	{"keys-pkcs11", "a device key in a PKCS #11 token (SoftHSM)", pkiTests("TestKeysStay", "-tags", "pkcs11", "./pki/p11key")},
	{"revoke-2000", "with 2,000 connected devices a revocation ends the session under 5 s (p99), and it does not come back", revokeAmong(2000, 100, 5*time.Second)},
}

func pkiTests(pattern string, flags ...string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) { return e.tests(ctx, pattern, flags...) }
}

// revokeAmong connects many devices and revokes some of them, one by one.
func revokeAmong(devices, victims int, limit time.Duration) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		inv, err := nation(devices)
		if err != nil {
			return "", err
		}
		s, err := startScaled(ctx, e, "revoke", "log_level: warn\n", inv)
		if err != nil {
			return "", err
		}
		defer s.end()
		guard, err := s.guard(ctx)
		if err != nil {
			return "", err
		}
		up, err := s.startEdges(ctx, 0, 20*time.Minute, "--spread")
		if err != nil {
			return "", err
		}
		var took []time.Duration
		var gone []inventory.DeviceID
		for i, d := range inv.Devices {
			if i%(len(inv.Devices)/victims) != 0 || d.Role == inventory.RoleHub || len(gone) == victims {
				continue
			}
			t, err := s.cut(ctx, guard, d.ID, 4*limit)
			if err != nil {
				return "", err
			}
			took, gone = append(took, t), append(gone, d.ID)
		}
		select { // long enough for every one of them to try again
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(40 * time.Second):
		}
		for _, id := range gone {
			if d, err := guard.Device(ctx, id); err != nil || d.Connected {
				return "", fmt.Errorf("%s is connected again, %v", id, err)
			}
		}
		slices.Sort(took)
		at := func(p int) time.Duration { return took[min(len(took)-1, len(took)*p/100)].Round(time.Millisecond) }
		figure := fmt.Sprintf("%d connected after %.0f s; of %d revocations p50 %s, p99 %s; load %s", up.Edges, up.Seconds, len(took), at(50), at(99), loadAverage())
		if at(99) >= limit {
			return figure, fmt.Errorf("p99 is not under %s: %s", limit, figure)
		}
		return figure, nil
	}
}

// guard makes somebody who may revoke.
func (s *scaled) guard(ctx context.Context) (*client.Client, error) {
	pw := rand.Text()
	if _, err := s.admin.CreateUser(ctx, client.NewUser{Name: "an-ninh", FullName: "An ninh", Roles: []client.Role{client.RoleSecurity}, Password: pw}); err != nil {
		return nil, err
	}
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	_, err = c.Login(ctx, client.Login{Name: "an-ninh", Password: pw})
	return c, err
}

// cut revokes a device's certificate and measures from the request until the
// device is not connected any more.
func (s *scaled) cut(ctx context.Context, guard *client.Client, id inventory.DeviceID, most time.Duration) (time.Duration, error) {
	d, err := guard.Device(ctx, id)
	if err != nil {
		return 0, err
	}
	if !d.Connected || d.CertSerial == "" {
		return 0, fmt.Errorf("%s is not connected: nothing to cut", id)
	}
	begin := time.Now()
	if _, err := guard.Revoke(ctx, d.CertSerial, "key-compromise: nghiệm thu"); err != nil {
		return 0, err
	}
	for d.Connected {
		if time.Since(begin) > most {
			return 0, fmt.Errorf("%s is connected %s after its revocation", id, most)
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(ctx.Err(), fmt.Errorf("%s is still connected", id))
		case <-time.After(20 * time.Millisecond):
		}
		if d, err = guard.Device(ctx, id); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}
