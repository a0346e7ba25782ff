package googlesm

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// call says what was tried, on which secret, with which permission, and whether it changes something.
type call struct {
	what, id, permission string
	changes              bool
}

// fault classifies an error of the client. It keeps the status code; no text passes. What to do about it is added here.
func (c *client) fault(err error, on call) *fault.Error {
	f, s := googleapi.Fault(err, c.doing(on.what), on.changes)
	switch s.Code() {
	case codes.NotFound:
		return f.WithAdvice("Look whether it exists: %s", fault.Link(c.Console(on.id)))
	case codes.PermissionDenied, codes.Unauthenticated:
		return f.WithAdvice("%s", c.grant(on.id, on.permission))
	case codes.ResourceExhausted:
		// Google's quota page: 2 AddSecretVersion and UpdateSecret a second for one secret, 1 destroy a second for
		// one version. So a second is enough, and less is not.
		f.RetryAfter = max(f.RetryAfter, time.Second)
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.AlreadyExists:
		return f.WithAdvice("Look at the secret: %s", fault.Link(c.Console(on.id)))
	}
	return f
}

// grant says how to grant rekey what it needs. Google's role page: among the predefined roles only
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
