package simcloud_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud"
)

func TestARequestWithABodyCommitsWholeAfterItsCallerHasGone(t *testing.T) {
	cloud := simcloud.New(nil)
	var atServer context.Context
	route := func(r *http.Request) (string, string) {
		atServer = r.Context()
		return "Create", ""
	}
	committed := make(chan string, 1)
	handle := func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		committed <- string(body)
		if err != nil {
			t.Error(err)
		}
	}
	url, stop, err := cloud.ServeHTTP("test", route, func(w http.ResponseWriter, code int) { w.WriteHeader(code) }, http.HandlerFunc(handle))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	f := simcloud.Fault{Kind: simcloud.CommitLate, Times: 1, Release: make(chan struct{}), Reached: make(chan struct{}), Done: make(chan struct{})}
	cloud.Inject(f)

	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	// More than one read of a connection's buffer.
	body := strings.Repeat("0123456789", 20_000)
	go func() {
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
		_, err := http.DefaultClient.Do(request)
		failed <- err
	}()
	<-f.Reached
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller got %v", err)
	}
	<-atServer.Done()
	select {
	case <-committed:
		t.Fatal("committed before its time")
	default:
	}
	close(f.Release)
	<-f.Done
	if got := <-committed; got != body {
		t.Errorf("committed %d bytes of %d", len(got), len(body))
	}
}
