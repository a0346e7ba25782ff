package devserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

var attributes = map[string]enumspb.IndexedValueType{"RekeyKey": enumspb.INDEXED_VALUE_TYPE_KEYWORD}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func startWorkflow(t *testing.T, s *Server, id string) {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.HostPort(), Namespace: s.Namespace(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: id, TaskQueue: "q",
		TypedSearchAttributes: temporal.NewSearchAttributes(temporal.NewSearchAttributeKeyKeyword("RekeyKey").ValueSet("k")),
	}, "AnyWorkflow")
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWorkflowCanUseTheSearchAttributesAtOnce(t *testing.T) {
	s := start(t, Options{SearchAttributes: attributes})
	defer stop(t, s)
	startWorkflow(t, s, "w")
}

// What a client waits for may have happened without its being told; see dynamicConfig.
func TestAClientThatWaitsForAWorkflowIsSoonToldThatItGoesOnAndAsksAgain(t *testing.T) {
	s := start(t, Options{SearchAttributes: attributes})
	defer stop(t, s)
	startWorkflow(t, s, "w")
	c, err := client.Dial(client.Options{HostPort: s.HostPort(), Namespace: s.Namespace(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A server that sees a deadline answers just before it. This one it does not see, and by default it would answer
	// after 20 s.
	ctx, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	defer time.AfterFunc(15*time.Second, giveUp).Stop()
	page, err := c.WorkflowService().GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: s.Namespace(), Execution: &commonpb.WorkflowExecution{WorkflowId: "w"},
		WaitNewEvent: true, HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
	})
	if err != nil {
		t.Fatalf("the long poll was still open: %v", err)
	}
	if len(page.GetHistory().GetEvents()) != 0 || len(page.GetNextPageToken()) == 0 {
		t.Errorf("the answer is not \"ask again\": %v", page)
	}
}

func TestAPortThatIsTakenAtTheLastMomentIsAnErrorAndNoCrash(t *testing.T) {
	for name, take := range map[string]func(p ports) int{
		"of the frontend":           func(p ports) int { return p.frontend },
		"of a service":              func(p ports) int { return p.grpc[2] },
		"of a service's membership": func(p ports) int { return p.membership[1] },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := choosePorts(0)
			if err != nil {
				t.Fatal(err)
			}
			l, err := listen(take(p))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			if _, err := startOn(Options{Namespace: "default"}, p); !errors.As(err, new(fatalError)) || !strings.Contains(err.Error(), l.Addr().String()) {
				t.Errorf("Start said %v", err)
			}
		})
	}
}

func TestADatabaseFileSurvivesARestartAndGainsNewSearchAttributes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "temporal.db")
	s := start(t, Options{DatabaseFile: file})
	stop(t, s)

	s = start(t, Options{DatabaseFile: file, SearchAttributes: attributes})
	startWorkflow(t, s, "w")
	stop(t, s)

	s = start(t, Options{DatabaseFile: file, SearchAttributes: attributes})
	defer stop(t, s)
	c, err := client.Dial(client.Options{HostPort: s.HostPort(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d, err := c.DescribeWorkflowExecution(context.Background(), "w", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.GetWorkflowExecutionInfo().GetStatus(); got != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("the workflow is %v after the restart, want running", got)
	}
	if _, err := c.WorkflowService().DescribeNamespace(context.Background(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"}); err != nil {
		t.Error(err)
	}
}

func TestTheUIAnswersItsOwnOriginOnly(t *testing.T) {
	s := start(t, Options{UI: true})
	defer stop(t, s)
	cases := map[string]struct {
		host, origin string
		// fetch is what a browser says of a request: site, mode and destination.
		fetch string
		want  int
	}{
		"a browser on this machine sees the UI":          {want: http.StatusOK},
		"a rebound host name is refused":                 {host: "evil.example", want: http.StatusMisdirectedRequest},
		"a page of another origin is refused":            {origin: "http://evil.example", want: http.StatusForbidden},
		"a page of another port of loopback is refused":  {origin: "http://127.0.0.1:1", want: http.StatusForbidden},
		"a sandboxed page without an origin is refused":  {origin: "null", want: http.StatusForbidden},
		"the UI's own origin is let through":             {origin: s.UIURL(), want: http.StatusOK},
		"what the UI's own page fetches is let through":  {fetch: "same-origin cors empty", want: http.StatusOK},
		"an address that a person typed is let through":  {fetch: "none navigate document", want: http.StatusOK},
		"a link on another page leads here":              {fetch: "cross-site navigate document", want: http.StatusOK},
		"what another page fetches is refused":           {fetch: "cross-site no-cors empty", want: http.StatusForbidden},
		"what a page of another port fetches is refused": {fetch: "same-site cors empty", want: http.StatusForbidden},
		"a frame on another page is refused":             {fetch: "cross-site navigate iframe", want: http.StatusForbidden},
		"a picture on another page is refused":           {fetch: "cross-site no-cors image", want: http.StatusForbidden},
		"the UI's own origin over another scheme is not": {origin: strings.Replace(s.UIURL(), "http", "https", 1), want: http.StatusForbidden},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodGet, s.UIURL()+"/api/v1/settings", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.host != "" {
				req.Host = tc.host
			}
			if tc.origin != "" {
				req.Header.Set("Origin", tc.origin)
			}
			for i, value := range strings.Fields(tc.fetch) {
				req.Header.Set([]string{"Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"}[i], value)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.want {
				body, _ := io.ReadAll(resp.Body)
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tc.want, body)
			}
		})
	}
}

// BenchmarkStart measures the time until the server answers and search attributes can be used.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := Start(context.Background(), Options{SearchAttributes: attributes})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func TestNobodyStartsAnActivityOutsideAWorkflow(t *testing.T) {
	s := start(t, Options{})
	defer stop(t, s)
	c, err := client.Dial(client.Options{HostPort: s.HostPort(), Namespace: s.Namespace(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.ExecuteActivity(t.Context(), client.StartActivityOptions{ID: "a", TaskQueue: "rekey-google", StartToCloseTimeout: time.Minute}, "Discard")
	if err == nil || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("it was taken: %v", err)
	}
}
