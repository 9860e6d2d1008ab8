package scenario

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/wardnet/wardnet/edge/agent"
	"github.com/wardnet/wardnet/edge/channel"
	"github.com/wardnet/wardnet/labs/netlab"
	"github.com/wardnet/wardnet/labs/netlab/netns"
	"github.com/wardnet/wardnet/pki/enrol"
)

// boxReplaced lets a ward's box burn and puts another one in its place. The
// disk of the burnt one must open no door any more.
func boxReplaced(ctx context.Context, p *play) error {
	ward := p.wards()[0]
	begin := time.Now()
	now, err := p.Lab.Replace(ctx, ward, "Kịch bản thử nghiệm: nguồn bị cháy")
	if err != nil {
		return err
	}
	took := time.Since(begin)
	p.event(Event{
		Name: "replaced and healthy", OutageMS: took.Milliseconds(), ExpectedMS: replaced.Milliseconds(), OK: took <= replaced,
		Detail: fmt.Sprintf("%s in the place of %s at %s", now.Device, ward.Device, ward.ID),
	})
	all, stop, err := p.watch(ctx, now)
	if err != nil {
		return err
	}
	stop()
	p.event(judge("its packets pass", all[0].ping.Since(0, all[0].ping.Mark()-settle), settle))
	refusal := p.knocks(ctx, ward)
	p.event(Event{Name: "the old disk is refused", OK: refusal != nil, Detail: fmt.Sprint(refusal)})
	return p.intact(ctx, "with the new box")
}

// knocks connects to the management channel as a device by what is on its disk,
// from beside the controller, and says how it was refused; nil: it was let in.
func (p *play) knocks(ctx context.Context, s netlab.Site) error {
	id, err := enrol.Load(agent.IdentityDir(p.Lab.StateDir(s.Device)))
	if err != nil {
		return fmt.Errorf("its identity cannot be read: %w", err)
	}
	host, _, err := net.SplitHostPort(id.Channel())
	if err != nil {
		return err
	}
	cfg := id.TLS()
	cfg.ServerName, cfg.NextProtos = host, []string{channel.Protocol}
	return netns.Do(netlab.Name(p.Lab.Topology.Prefix, "ctl"), func() error {
		c, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", id.Channel())
		if err != nil {
			return err
		}
		defer c.Close()
		// With TLS 1.3 the server judges the certificate after our handshake.
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return nil
		}
		return err
	})
}
