package simcloud_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	admin "cloud.google.com/go/iam/admin/apiv1"
	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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

func TestASparedClientMeetsNoFaultAndStandsInNoJournal(t *testing.T) {
	cloud := simcloud.New(nil)
	cloud.Spare("an-application/")
	google, err := cloud.StartGoogleIAM(simcloud.GoogleIAMOptions{Accounts: []string{"ci@acme-prod.iam.gserviceaccount.com"}})
	if err != nil {
		t.Fatal(err)
	}
	defer google.Stop()
	cloud.Inject(simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusInternalServerError})
	ask := func(agent string) (token int, list error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, google.TokenURL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("User-Agent", agent)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		c, err := admin.NewIamClient(t.Context(), option.WithEndpoint(google.Endpoint), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())), option.WithUserAgent(agent))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		c.CallOptions = &admin.IamCallOptions{}
		_, err = c.ListServiceAccountKeys(t.Context(), &adminpb.ListServiceAccountKeysRequest{Name: "projects/-/serviceAccounts/ci@acme-prod.iam.gserviceaccount.com"})
		return answer.StatusCode, err
	}
	if token, err := ask("an-application/1"); token != http.StatusBadRequest || err != nil {
		t.Errorf("a spared client got %d and %v", token, err)
	}
	if n := len(cloud.Journal()); n > 0 {
		t.Errorf("%d events are in the journal", n)
	}
	if token, err := ask("rekey"); token != http.StatusInternalServerError || err == nil {
		t.Errorf("another client got %d and %v", token, err)
	}
}
