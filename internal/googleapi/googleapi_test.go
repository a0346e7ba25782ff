package googleapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/rotation/fault"
)

func TestAnErrorOfAClientHasAClass(t *testing.T) {
	later, err := status.New(codes.ResourceExhausted, "server words").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	before, err := status.New(codes.Unavailable, "server words").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(-time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	of := func(c codes.Code) error { return status.Error(c, "server words") }
	for sentence, tc := range map[string]struct {
		err       error
		class     fault.Class
		code      string
		unsettled bool
		after     time.Duration
	}{
		"what is not there":                      {err: of(codes.NotFound), class: fault.NotFound, code: "NotFound"},
		"a permission that is missing":           {err: of(codes.PermissionDenied), class: fault.AccessDenied, code: "PermissionDenied"},
		"credentials that are refused":           {err: of(codes.Unauthenticated), class: fault.AccessDenied, code: "Unauthenticated"},
		"too many requests":                      {err: of(codes.ResourceExhausted), class: fault.Throttled, code: "ResourceExhausted"},
		"too many requests, with a time":         {err: later.Err(), class: fault.Throttled, code: "ResourceExhausted", after: 7 * time.Second},
		"a bad argument":                         {err: of(codes.InvalidArgument), class: fault.Rejected, code: "InvalidArgument"},
		"a state that forbids it":                {err: of(codes.FailedPrecondition), class: fault.Rejected, code: "FailedPrecondition"},
		"what is there already":                  {err: of(codes.AlreadyExists), class: fault.Rejected, code: "AlreadyExists"},
		"a method that Google does not know":     {err: of(codes.Unimplemented), class: fault.Internal, code: "Unimplemented"},
		"a server that is away":                  {err: of(codes.Unavailable), class: fault.Unavailable, code: "Unavailable", unsettled: true},
		"a wait that would lie in the past":      {err: before.Err(), class: fault.Unavailable, code: "Unavailable", unsettled: true},
		"a server that fails":                    {err: of(codes.Internal), class: fault.Unavailable, code: "Internal", unsettled: true},
		"a deadline of ours":                     {err: fmt.Errorf("server words: %w", context.DeadlineExceeded), class: fault.Unavailable, code: "DeadlineExceeded", unsettled: true},
		"a cancel of ours":                       {err: fmt.Errorf("server words: %w", context.Canceled), class: fault.Unavailable, code: "Canceled", unsettled: true},
		"an error that never came from a server": {err: errors.New("server words"), class: fault.Unavailable, code: "Unknown", unsettled: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			for _, changes := range []bool{false, true} {
				f, s := googleapi.Fault(tc.err, "do it", changes)
				if f.Class != tc.class || f.Code != tc.code || f.Unsettled != (changes && tc.unsettled) || f.RetryAfter != tc.after || s.Code().String() != tc.code {
					t.Errorf("changes %v: %+v, status %s", changes, f, s.Code())
				}
				if strings.Contains(f.Error(), "server words") || !strings.HasPrefix(f.Error(), "do it: ") {
					t.Errorf("it reads %q", f.Error())
				}
			}
		})
	}
}

func TestAClientSpeaksToGoogleWithCredentialsOrToLoopbackWithout(t *testing.T) {
	const there = "iam.googleapis.com:443"
	own := []option.ClientOption{option.WithAPIKey("x")}
	for sentence, tc := range map[string]struct {
		endpoint string
		own      []option.ClientOption
		code     string
	}{
		"Google without credentials":   {code: "no_credentials"},
		"Google with credentials":      {own: own},
		"loopback by number":           {endpoint: "127.0.0.1:1"},
		"loopback by the newer number": {endpoint: "[::1]:1"},
		"loopback by name":             {endpoint: "localhost:1"},
		"another host":                 {endpoint: "iam.example.com:443", own: own, code: "bad_endpoint"},
		"another host like loopback":   {endpoint: "localhost.example.com:443", own: own, code: "bad_endpoint"},
		"every address of the machine": {endpoint: "0.0.0.0:1", own: own, code: "bad_endpoint"},
		"a host without a port":        {endpoint: "127.0.0.1", own: own, code: "bad_endpoint"},
		"an address of the web":        {endpoint: "http://127.0.0.1:1", own: own, code: "bad_endpoint"},
	} {
		t.Run(sentence, func(t *testing.T) {
			options, err := googleapi.ClientOptions(there, tc.endpoint, tc.own, "set it up")
			if tc.code == "" {
				if err != nil || len(options) == 0 {
					t.Errorf("%d options, %v", len(options), err)
				}
				return
			}
			if !fault.Is(err, fault.Rejected) || fault.Of(err).Code != tc.code || options != nil {
				t.Errorf("%v, want Rejected with %s", err, tc.code)
			}
		})
	}
}
