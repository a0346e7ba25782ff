// Package google is what the adapters of Google's gRPC services share: how their clients are set up, and what class of
// fault an error of theirs is.
package googleapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// UniverseDomain is the one cloud that rekey speaks to.
const UniverseDomain = "googleapis.com"

// ClientOptions returns what a client is made with. It speaks to google (host:port), with the credentials that own must
// then hold, or, if endpoint is not empty, to that one: on loopback, without TLS and credentials. own comes last, and
// nothing is taken from the environment. A Rejected fault says what is wrong; doing is how it names the client's owner.
func ClientOptions(google, endpoint string, own []option.ClientOption, doing string) ([]option.ClientOption, error) {
	options := []option.ClientOption{
		option.WithUniverseDomain(UniverseDomain),
		option.WithTelemetryDisabled(),
		// Without a logger of ours, GOOGLE_SDK_GO_LOGGING_LEVEL=debug makes clients print private keys and payloads.
		option.WithLogger(slog.New(slog.DiscardHandler)),
		// Repeating is the caller's business, who knows how long.
		option.WithGRPCDialOption(grpc.WithDisableRetry()),
		option.WithGRPCDialOption(grpc.WithDisableServiceConfig()),
	}
	if endpoint == "" {
		if len(own) == 0 {
			return nil, fault.New(fault.Rejected, "no_credentials", doing).WithAdvice("say with which credentials rekey calls Google; they are not taken from the environment.")
		}
		return append(append(options, option.WithEndpoint(google)), own...), nil
	}
	if host, _, err := net.SplitHostPort(endpoint); err != nil || !Loopback(host) {
		return nil, fault.New(fault.Rejected, "bad_endpoint", doing).WithAdvice("another endpoint must be host:port on loopback, because nothing is encrypted on the way.")
	}
	return append(append(options,
		option.WithEndpoint(endpoint),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	), own...), nil
}

// ErrClient is the fault of a client that Google's library refuses to make. The library's text can quote credentials.
func ErrClient(doing string) *fault.Error {
	return fault.New(fault.Rejected, "bad_options", doing).WithAdvice("Google's client refuses its options: look at the credentials that rekey calls Google with.")
}

// Loopback reports whether a host is this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Fault classifies an error of a client by its status, which it gives too: what a code means for one service, and what
// to do about it, its adapter adds. No text passes. changes: the request would have changed something, so that without
// a clear answer nobody knows whether it did (Unsettled).
func Fault(err error, doing string, changes bool) (*fault.Error, *status.Status) {
	s, ok := status.FromError(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s = status.New(codes.DeadlineExceeded, "")
	case errors.Is(err, context.Canceled):
		s = status.New(codes.Canceled, "")
	case !ok:
		s = status.New(codes.Unknown, "")
	}
	f := fault.New(fault.Internal, s.Code().String(), doing)
	f.RetryAfter = retryDelay(s)
	switch s.Code() {
	case codes.NotFound:
		f.Class = fault.NotFound
	case codes.PermissionDenied, codes.Unauthenticated:
		f.Class = fault.AccessDenied
	case codes.ResourceExhausted:
		f.Class = fault.Throttled
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.AlreadyExists:
		f.Class = fault.Rejected
	case codes.Unimplemented:
	default:
		// Unavailable, DeadlineExceeded, Internal, Canceled, Aborted, Unknown, DataLoss: nobody knows what became of it.
		f.Class, f.Unsettled = fault.Unavailable, changes
	}
	return f, s
}

func retryDelay(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return max(0, r.GetRetryDelay().AsDuration())
		}
	}
	return 0
}
