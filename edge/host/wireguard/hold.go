package wireguard

import (
	"context"
	"net"
	"os"

	"github.com/wardnet/wardnet/edge/host/wireguard/process"
	"github.com/wardnet/wardnet/edge/render"
)

// held is an interface whose carrier we keep.
type held struct {
	file  *os.File
	index int // an interface made anew has another
	pid   int // of the process whose queue it is
}

// hold keeps the carrier of the devices' interfaces over a death of the process,
// so that routing and BFD sessions live through it. One that cannot be held is
// no fault: its routes come back with it. The caller holds mu.
func (d *Driver) hold(ctx context.Context, devices []render.WireGuard) {
	if d.process == nil {
		return
	}
	s, err := d.process.dial(ctx)
	if err != nil {
		return // it died just now and is started again
	}
	defer s.c.Close()
	who, err := process.Peer(s.c)
	if err != nil {
		return
	}
	pid := int(who.Pid)
	now := make(map[string]held, len(devices))
	for _, dev := range devices {
		link, err := net.InterfaceByName(dev.Name)
		if err != nil {
			continue // gone again
		}
		if h, ok := d.held[dev.Name]; ok && h.index == link.Index && h.pid == pid {
			now[dev.Name] = h
			delete(d.held, dev.Name)
			continue
		}
		f, err := process.Hold(pid, dev.Name)
		if err != nil {
			d.log.Info("interface goes down with the WireGuard process", "interface", dev.Name, "err", err)
		}
		now[dev.Name] = held{f, link.Index, pid} // also of a failure: it is said once
	}
	for _, h := range d.held { // the new process has its own queue by now
		_ = h.file.Close() // nothing was written
	}
	d.held = now
}
