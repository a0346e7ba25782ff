package devserver

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	uiassets "github.com/temporalio/ui-server/v2/ui"
)

// ui is the Temporal web UI behind a door that checks who asks. The UI itself trusts every Host, so a web page that rebinds
// its own name to 127.0.0.1 could otherwise talk to it with the operator's browser. It is served in this process, so that
// there is no other way to it than the door.
type ui struct {
	url  string
	door *http.Server
}

func startUI(ctx context.Context, port int, temporalHostPort, namespace string) (*ui, error) {
	inner, err := handleUI(&uiconfig.Config{
		TemporalGRPCAddress: temporalHostPort,
		EnableUI:            true,
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true,
		HideLogs:            true,
		// The UI's own server would listen there; the settings must name something.
		Host: "127.0.0.1", Port: 1,
		CORS: uiconfig.CORS{CookieInsecure: true},
	})
	if err != nil {
		return nil, fmt.Errorf("the Temporal UI cannot be built: %w", err)
	}
	listener, err := listen(port)
	if err != nil {
		return nil, fmt.Errorf("the Temporal UI cannot listen: %w", err)
	}
	u := &ui{url: "http://" + listener.Addr().String(), door: &http.Server{
		Handler:           sameOrigin(listener.Addr().(*net.TCPAddr).Port, inner),
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

// handleUI is the UI's server without its listener.
func handleUI(cfg *uiconfig.Config) (http.Handler, error) {
	provider, err := uiconfig.NewConfigProviderWithRefresh(cfg)
	if err != nil {
		return nil, err
	}
	all, err := uiassets.Assets()
	if err != nil {
		return nil, err
	}
	assets, err := fs.Sub(all, "local")
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure())
	const secureCookie = false // plain http on loopback
	e.Use(csrf.EnsureTokenCookie(secureCookie), middleware.CSRFWithConfig(csrf.MiddlewareConfig(provider, secureCookie)))
	e.Pre(route.PublicPath(cfg.PublicPath))
	route.SetHealthRoute(e)
	if err := route.SetAPIRoutes(e, provider, []api.Middleware{headers.WithForwardHeaders([]string{"Caller-Type"})}); err != nil {
		return nil, err
	}
	route.SetAuthRoutes(e, provider)
	if err := route.SetUIRoutes(e, cfg.PublicPath, assets); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, cfg.PublicPath)
	return e, nil
}

func (u *ui) stop() { _ = u.door.Close() }

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
		if !ownOrigin(r, hosts) || !ownPage(r) {
			http.Error(w, "This UI takes no requests from other origins.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownOrigin reports whether the page that makes a request, if a browser names one, is the UI's own.
func ownOrigin(r *http.Request, hosts map[string]bool) bool {
	origins := r.Header.Values("Origin")
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" || !hosts[u.Host] {
			return false
		}
	}
	return len(origins) <= 1
}

// ownPage reports whether a browser says that the UI's own page, or a person, makes the request. A link on another page
// may lead here: what it shows that page does not see.
func ownPage(r *http.Request) bool {
	switch site := r.Header.Values("Sec-Fetch-Site"); {
	case len(site) == 0:
		return true // no browser, or an old one
	case len(site) == 1 && (site[0] == "same-origin" || site[0] == "none"):
		return true
	}
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
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
