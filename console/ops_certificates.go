package console

import (
	"context"
	"net/http"
	"strings"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerCertificates() {
	op := post("/enrolment", "create-enrolment", "certificates", "Make one-time enrolment tokens; they are shown once")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.enrol)
	write(c, post("/certificates/{serial}/revoke", "revoke-certificate", "certificates", "Revoke a certificate and close what it opened"), c.revoke)
	op = post("/service-certificates", "create-service-certificate", "certificates", "Sign the certificate of a policy enforcement point")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.issueService)
}

func (c *Console) enrol(ctx context.Context, in *struct{ Body client.EnrolmentRequest }) (*answer[client.EnrolmentBundle], error) {
	about(ctx, "enrolment")
	b, err := c.deps.Certificates.Enrol(ctx, in.Body.Devices, principal(ctx).Name)
	if err == nil {
		devices := make([]inventory.DeviceID, len(b.Tokens)) // never the tokens
		for i, t := range b.Tokens {
			devices[i] = t.Device
		}
		changed(ctx, nil, map[string]any{"devices": devices})
	}
	return answered(b, err)
}

func (c *Console) revoke(ctx context.Context, in *struct {
	Serial string `path:"serial" maxLength:"64"`
	Body   client.Revocation
},
) (*answer[client.Certificate], error) {
	about(ctx, "certificate/"+in.Serial)
	if strings.TrimSpace(in.Body.Reason) == "" {
		return nil, &client.Problem{Status: http.StatusUnprocessableEntity, Title: http.StatusText(http.StatusUnprocessableEntity), Detail: "a revocation needs a reason", Hint: "say in a few words why, for whoever reads the log"}
	}
	cert, err := c.deps.Certificates.Revoke(ctx, in.Serial, in.Body.Reason, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"certificate": cert, "reason": in.Body.Reason})
	}
	return answered(cert, err)
}

func (c *Console) issueService(ctx context.Context, in *struct {
	Body client.NewServiceCertificate
},
) (*answer[client.ServiceCertificate], error) {
	about(ctx, "service/"+clip(in.Body.Name))
	cert, err := c.deps.Certificates.IssueService(ctx, in.Body, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, map[string]any{"serial": cert.Serial, "not_after": cert.NotAfter})
	}
	return answered(cert, err)
}
