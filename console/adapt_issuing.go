package console

import (
	"context"
	"encoding/base64"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/pki/acmeca"
	"github.com/wardnet/wardnet/pki/stepca"
)

// CAServices is [Issuing] over the step API and ACME.
type CAServices struct {
	Step *stepca.Server
	ACME *acmeca.Server
	Said client.CA // what it answers to whoever asks where it is
}

// CA implements [Issuing].
func (s *CAServices) CA() client.CA { return s.Said }

// Token implements [Issuing].
func (s *CAServices) Token(ctx context.Context, want client.NewServiceToken, by string) (client.ServiceToken, error) {
	t, err := s.Step.Token(ctx, stepca.TokenRequest{Name: want.Name, Names: want.Names, CSRHash: want.CSRSHA256, Registrar: want.Registrar, By: by})
	if err != nil {
		return client.ServiceToken{}, err
	}
	return client.ServiceToken{Name: want.Name, Names: t.Names, Token: t.Text, Expires: t.Expires.UTC(), URL: s.Said.URL}, nil
}

// ACMEKey implements [Issuing].
func (s *CAServices) ACMEKey(ctx context.Context, want client.NewACMEKey) (client.ACMEKey, error) {
	k, err := s.ACME.NewExternalKey(ctx, want.Reference)
	if err != nil {
		return client.ACMEKey{}, err
	}
	return client.ACMEKey{ID: k.ID, HMACKey: base64.RawURLEncoding.EncodeToString(k.HmacKey), Directory: s.Said.ACMEDirectory}, nil
}
