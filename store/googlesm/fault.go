package googlesm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// call says what was tried, on which secret, with which permission, and whether it changes something.
type call struct {
	what, id, permission string
	changes              bool
}

// fault classifies an error of the client. It keeps the status code; no text passes.
func (c *client) fault(err error, on call) *fault.Error {
	s, ok := status.FromError(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s = status.New(codes.DeadlineExceeded, "")
	case errors.Is(err, context.Canceled):
		s = status.New(codes.Canceled, "")
	case !ok:
		s = status.New(codes.Unknown, "")
	}
	f := fault.New(fault.Internal, s.Code().String(), c.doing(on.what))
	f.RetryAfter = retryDelay(s)
	switch s.Code() {
	case codes.NotFound:
		f.Class = fault.NotFound
		return f.WithAdvice("Look whether it exists: %s", c.Console(on.id))
	case codes.PermissionDenied, codes.Unauthenticated:
		f.Class = fault.AccessDenied
		return f.WithAdvice("%s", c.grant(on.id, on.permission))
	case codes.ResourceExhausted:
		// Google's quota page: 2 AddSecretVersion and UpdateSecret a second for one secret, 1 destroy a second for
		// one version. So a second is enough, and less is not.
		f.Class, f.RetryAfter = fault.Throttled, max(f.RetryAfter, time.Second)
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.AlreadyExists:
		f.Class = fault.Rejected
		return f.WithAdvice("Look at the secret: %s", c.Console(on.id))
	case codes.Unimplemented:
	default:
		// Unavailable, DeadlineExceeded, Internal, Canceled, Aborted, Unknown, DataLoss: nobody knows what became of it.
		f.Class, f.Unsettled = fault.Unavailable, on.changes
	}
	return f
}

// grant tells how to give rekey what it needs. Google's role page: among the predefined roles only
// roles/secretmanager.admin may change a secret's metadata, where the record lives; secretVersionManager,
// secretVersionAdder and secretAccessor together may not.
func (c *client) grant(id string, permissions ...string) string {
	missing := strings.Join(permissions, ",")
	if missing == "" {
		missing = "(unknown)"
	}
	return fmt.Sprintf("rekey's own identity lacks %s on secret %s, or the secret does not exist. Grant it a custom role: "+
		"gcloud iam roles create rekeyKeeper --project=%s --permissions=%s && gcloud secrets add-iam-policy-binding %s --project=%s --member=serviceAccount:REKEY --role=projects/%s/roles/rekeyKeeper "+
		"(of Google's own roles, only roles/secretmanager.admin has them all).",
		missing, id, c.opts.Project, strings.Join(allPermissions, ","), id, c.opts.Project, c.opts.Project)
}

var allPermissions = []string{secretsGet, secretsUpdate, versionsAdd, versionsAccess, versionsGet, versionsList, versionsDestroy}

func retryDelay(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return max(0, r.GetRetryDelay().AsDuration())
		}
	}
	return 0
}
