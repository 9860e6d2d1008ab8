package scenario

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/labs/netlab"
)

// secretLines are ways in which devices write secrets; %s is the secret. FRR
// takes the first three for its own, the others as remarks of a list.
var secretLines = []string{
	"password %s", "enable password %s", "access-list plant%d remark neighbor 192.0.2.9 password %s",
	"access-list plant%d remark ip ospf message-digest-key 1 md5 %s", "access-list plant%d remark ip ospf authentication-key %s",
	"access-list plant%d remark key-string %s", "access-list plant%d remark enable secret 9 %s", "access-list plant%d remark username an password 7 %s",
	"access-list plant%d remark username an secret 5 %s", "access-list plant%d remark crypto isakmp key %s address 192.0.2.9",
	"access-list plant%d remark pre-shared-key local %s", "access-list plant%d remark radius-server host 192.0.2.9 key 7 %s",
	"access-list plant%d remark tacacs-server key %s", "access-list plant%d remark ntp authentication-key 1 md5 %s",
	"access-list plant%d remark snmp-server community %s RO", "access-list plant%d remark snmp-server user ops grp v3 auth sha %s",
	"access-list plant%d remark set psksecret ENC %s", "access-list plant%d remark PrivateKey = %s", "access-list plant%d remark client_secret: %s",
	"access-list plant%d remark https://ops:%s@192.0.2.9/x", "access-list plant%d remark Authorization: Bearer %s", "access-list plant%d remark ppp chap password 0 %s",
}

// secretsKept plants secrets on the router, waits until its configuration is
// archived, and looks for them: on the controller's disk, in its logs, and in
// what its API says.
func (p *driven) secretsKept(ctx context.Context) error {
	var planted []string
	commands := []string{"configure terminal"}
	for i, line := range secretLines {
		secret := fmt.Sprintf("s%02d%s", i, rand.Text()[:14])
		planted = append(planted, secret)
		line = strings.Replace(strings.Replace(line, "%d", strconv.Itoa(i), 1), "%s", secret, 1) // FRR keeps one remark of a list
		commands = append(commands, line)
	}
	if _, err := p.box.Vtysh(ctx, commands...); err != nil {
		return err
	}
	running, err := p.box.Vtysh(ctx, "show running-config")
	if err != nil {
		return err
	}
	there := 0
	for _, s := range planted {
		if strings.Contains(running, s) {
			there++
		}
	}
	var text string
	late := p.until(ctx, time.Minute, "the configuration being archived", func(ctx context.Context) (bool, error) {
		err := p.as(netlab.Engineer, func(c *client.Client) error {
			all, err := c.Configs(ctx, p.id)
			if err != nil || len(all) < 2 {
				return err
			}
			v, err := c.Config(ctx, p.id, 0)
			if err != nil {
				return err
			}
			diff, err := c.ConfigDiff(ctx, p.id, 0, 0)
			text = v.Text + diff.Diff
			return err
		})
		return strings.Contains(text, "plant21 remark"), err
	})
	if late != nil {
		return late
	}
	var leaks []string
	for i, s := range planted {
		if strings.Contains(text, s) {
			leaks = append(leaks, fmt.Sprintf("API: %s", secretLines[i]))
		}
	}
	files := 0
	for _, dir := range []string{p.Lab.Data(), filepath.Join(p.Lab.Dir, "run")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // gone since, or no file
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			files++
			for i, s := range planted {
				if bytes.Contains(b, []byte(s)) {
					leaks = append(leaks, fmt.Sprintf("%s: %s", path, secretLines[i]))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	p.event(Event{
		Name: "secrets stay on the device", OK: len(leaks) == 0 && there >= 20 && files > 5, Lost: len(leaks),
		Detail: strings.TrimSpace(fmt.Sprintf("%d of %d kinds were on the router; %d files and the API were looked through; %s", there, len(planted), files, strings.Join(leaks, ", "))),
	})
	return nil
}
