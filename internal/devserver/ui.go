package devserver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
)

// ui is the Temporal web UI behind a door that checks who asks. The UI server itself trusts every Host, so a
// web page that rebinds its own name to 127.0.0.1 could otherwise talk to it with the operator's browser.
type ui struct {
	url   string
	inner *uiserver.Server
	door  *http.Server
}

func startUI(ctx context.Context, port int, temporalHostPort, namespace string) (*ui, error) {
	free, err := listenBelowOutgoing()
	if err != nil {
		return nil, fmt.Errorf("the Temporal UI needs a port: %w", err)
	}
	innerPort := free.Addr().(*net.TCPAddr).Port
	if err := free.Close(); err != nil {
		return nil, fmt.Errorf("the Temporal UI needs a port: %w", err)
	}
	inner := uiserver.NewServer(server_options.WithConfigProvider(&uiconfig.Config{
		TemporalGRPCAddress: temporalHostPort,
		Host:                "127.0.0.1",
		Port:                innerPort,
		EnableUI:            true,
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true,
		HideLogs:            true,
		CORS:                uiconfig.CORS{CookieInsecure: true},
	}))
	listener, err := listen(port)
	if err != nil {
		return nil, fmt.Errorf("the Temporal UI cannot listen: %w", err)
	}
	go func() { _ = inner.Start() }()
	target := &url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", innerPort)}
	u := &ui{url: "http://" + listener.Addr().String(), inner: inner, door: &http.Server{
		Handler:           sameOrigin(listener.Addr().(*net.TCPAddr).Port, httputil.NewSingleHostReverseProxy(target)),
		ReadHeaderTimeout: 10 * time.Second,
	}}
	go func() { _ = u.door.Serve(listener) }()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := waitForUI(ctx, u.url); err != nil {
		u.stop()
		return nil, err
	}
	return u, nil
}

func (u *ui) stop() {
	_ = u.door.Close()
	u.inner.Stop()
}

// sameOrigin refuses requests whose Host is not this listener's own loopback address, and requests that a
// page of another origin makes.
func sameOrigin(port int, next http.Handler) http.Handler {
	hosts := map[string]bool{}
	for _, h := range []string{"127.0.0.1", "localhost", "[::1]"} {
		hosts[fmt.Sprintf("%s:%d", h, port)] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hosts[r.Host] {
			http.Error(w, "This UI answers on its loopback address only.", http.StatusMisdirectedRequest)
			return
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			u, err := url.Parse(origin)
			if err != nil || u.Scheme != "http" || !hosts[u.Host] {
				http.Error(w, "This UI takes no requests from other origins.", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// waitForUI returns when the UI serves pages; the demo prints its address only then.
func waitForUI(ctx context.Context, address string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode < http.StatusInternalServerError {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Temporal UI does not answer on %s: %w", address, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
