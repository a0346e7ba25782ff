package devserver

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// listening returns the TCP ports that this process listens on.
func listening(t *testing.T) (all []netip.AddrPort) {
	t.Helper()
	own := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			own[to] = true
		}
	}
	text, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	const listen = "0A"
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != listen || !own["socket:["+f[9]+"]"] {
			continue
		}
		raw, err := hex.DecodeString(strings.Replace(f[1], ":", "", 1))
		if err != nil || len(raw) != 6 {
			t.Fatalf("%q is no address", f[1])
		}
		var ip [4]byte
		binary.NativeEndian.PutUint32(ip[:], binary.BigEndian.Uint32(raw))
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4(ip), binary.BigEndian.Uint16(raw[4:])))
	}
	return all
}

// A page whose name was rebound to 127.0.0.1 can reach every port of loopback.
func TestNoPortLeadsToTheUIAroundItsDoor(t *testing.T) {
	before := len(listening(t))
	s := start(t, Options{UI: true})
	defer stop(t, s)
	ports := listening(t)
	if len(ports) <= before {
		t.Fatal("no port of the server was found: the test proves nothing")
	}
	door := false
	client := &http.Client{Timeout: 2 * time.Second}
	var asked sync.WaitGroup
	for _, p := range ports {
		if !p.Addr().IsLoopback() {
			t.Errorf("%s is not on loopback", p)
		}
		door = door || "http://"+p.String() == s.UIURL()
		asked.Go(func() {
			req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/api/v1/settings", p), nil)
			if err != nil {
				t.Error(err)
				return
			}
			req.Host = "evil.example:" + fmt.Sprint(p.Port())
			resp, err := client.Do(req)
			if err != nil {
				return // it speaks something else
			}
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("%s answers %s to any name", p, resp.Status)
			}
		})
	}
	asked.Wait()
	if !door {
		t.Errorf("the UI's own address %s is not among %v", s.UIURL(), ports)
	}
}
