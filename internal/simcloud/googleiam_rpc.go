package simcloud

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// targetOfIAM is the account that a request is about.
func targetOfIAM(request any) string {
	named, ok := request.(interface{ GetName() string })
	if !ok {
		return ""
	}
	email, _, _ := splitName(named.GetName())
	return email
}

// splitName reads projects/{project}/serviceAccounts/{email}[/keys/{id}].
func splitName(name string) (email, project, key string) {
	p := strings.Split(name, "/")
	if len(p) != 4 && len(p) != 6 || p[0] != "projects" || p[2] != "serviceAccounts" || len(p) == 6 && p[4] != "keys" {
		return "", "", ""
	}
	if len(p) == 6 {
		key = p[5]
	}
	return p[3], p[1], key
}

// account finds the account of a resource name. The caller holds mu.
func (g *GoogleIAM) account(name string) (*googleAccount, error) {
	email, project, _ := splitName(name)
	if email == "" {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid resource name %q.", name)
	}
	a := g.accounts[email]
	switch {
	case a == nil && project == "-":
		// Google's reference: with the wildcard, a missing account answers 403 in place of 404.
		return nil, status.Errorf(codes.PermissionDenied, "Permission iam.serviceAccountKeys.* is required on service account %s.", email)
	case a == nil || project != "-" && project != a.project:
		return nil, status.Errorf(codes.NotFound, "Service account %s does not exist.", email)
	}
	return a, nil
}

// key finds the key of a resource name. The caller holds mu.
func (g *GoogleIAM) key(name string) (*googleAccount, *googleKey, error) {
	a, err := g.account(name)
	if err != nil {
		return nil, nil, err
	}
	_, _, id := splitName(name)
	k := a.find(id)
	switch {
	// Reads and changes of a key that was just made may miss it (googleapis/google-api-go-client issue 234,
	// googleapis/google-cloud-cpp issue 6637, GoogleCloudPlatform/magic-modules pull request 11044).
	case k == nil || g.cloud.Now().Before(k.visibleFrom):
		return nil, nil, status.Errorf(codes.NotFound, "Service account key %s does not exist.", id)
	case k.deleted:
		return nil, nil, g.errGone(id)
	}
	if k.system {
		return nil, nil, status.Errorf(codes.FailedPrecondition, "Service account key %s is managed by Google.", id)
	}
	return a, k, nil
}

// errGone refuses a request about a key that was deleted, as AnswerGone says. The caller holds mu.
func (g *GoogleIAM) errGone(id string) error {
	switch g.gone {
	case codes.FailedPrecondition:
		return errPrecondition()
	case codes.PermissionDenied:
		return status.Errorf(codes.PermissionDenied, "Permission iam.serviceAccountKeys.* denied on key %s (or it may not exist).", id)
	}
	return status.Errorf(g.gone, "Service account key %s does not exist.", id)
}

// forbidden is how Google tells that an organization policy is in the way (its page "Troubleshoot
// organization policy errors for service accounts" prints the creation error; the upload error is its analogue). A
// managed constraint comes as an ErrorInfo, without a PreconditionFailure (the same page, on default service accounts). The
// caller holds mu.
func (g *GoogleIAM) forbidden(a *googleAccount, constraint, words string) error {
	if g.managed {
		s, err := status.New(codes.FailedPrecondition, "Operation denied by org policy: "+words).WithDetails(&errdetails.ErrorInfo{
			Reason: "CUSTOM_ORG_POLICY_VIOLATION", Domain: "googleapis.com",
			Metadata: map[string]string{"customConstraints": "constraints/iam.managed." + constraint, "service": "iam.googleapis.com"},
		})
		if err != nil {
			return err
		}
		return s.Err()
	}
	s, err := status.New(codes.FailedPrecondition, words).WithDetails(&errdetails.PreconditionFailure{
		Violations: []*errdetails.PreconditionFailure_Violation{{
			Type: "constraints/iam." + constraint, Subject: "projects/" + a.project + "/serviceAccounts/" + a.email, Description: words,
		}},
	})
	if err != nil {
		return err
	}
	return s.Err()
}

// errPrecondition says nothing but that. Since about 2022 the limit of keys is told so (google-api-dotnet-client issue
// 2027); before, it was RESOURCE_EXHAUSTED with a RetryInfo of a day.
func errPrecondition() error {
	return status.Error(codes.FailedPrecondition, "Precondition check failed.")
}

// CreateServiceAccountKey makes a key pair and gives its private half, once.
func (g *GoogleIAM) CreateServiceAccountKey(_ context.Context, req *adminpb.CreateServiceAccountKeyRequest) (*adminpb.ServiceAccountKey, error) {
	switch req.GetPrivateKeyType() {
	case adminpb.ServiceAccountPrivateKeyType_TYPE_UNSPECIFIED, adminpb.ServiceAccountPrivateKeyType_TYPE_GOOGLE_CREDENTIALS_FILE:
	default:
		return nil, status.Error(codes.Unimplemented, "only credentials files are simulated")
	}
	private, err := g.keyPair()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a, err := g.account(req.GetName())
	if err != nil {
		return nil, err
	}
	if g.forbidsCreation {
		return nil, g.forbidden(a, "disableServiceAccountKeyCreation", "Key creation is not allowed on this service account.")
	}
	if a.full() {
		return nil, errPrecondition()
	}
	k, file, err := g.addCreated(a, private)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	out := k.proto(a)
	out.PrivateKeyType, out.PrivateKeyData = adminpb.ServiceAccountPrivateKeyType_TYPE_GOOGLE_CREDENTIALS_FILE, file
	return out, nil
}

// UploadServiceAccountKey takes an RSA public key in an X.509 v3 certificate, in PEM with its first and last line
// (Google's reference). What a repeated upload of one certificate does is not documented; here it makes a second
// key, which is the worse of the two.
func (g *GoogleIAM) UploadServiceAccountKey(_ context.Context, req *adminpb.UploadServiceAccountKeyRequest) (*adminpb.ServiceAccountKey, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, err := g.account(req.GetName())
	if err != nil {
		return nil, err
	}
	if g.forbidsUpload {
		return nil, g.forbidden(a, "disableServiceAccountKeyUpload", "Key upload is not allowed on this service account.")
	}
	block, rest := pem.Decode(req.GetPublicKeyData())
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		return nil, status.Error(codes.InvalidArgument, "Invalid public key: not one PEM certificate.")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Version != 3 {
		return nil, status.Error(codes.InvalidArgument, "Invalid public key: not an X.509 v3 certificate.")
	}
	public, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return nil, status.Error(codes.InvalidArgument, "Invalid public key: not a self-signed RSA certificate.")
	}
	if !g.cloud.Now().Before(cert.NotAfter) {
		return nil, status.Error(codes.InvalidArgument, "Invalid public key: the certificate has expired.")
	}
	if a.full() {
		return nil, errPrecondition()
	}
	k := &googleKey{
		id: randomHex(20), origin: adminpb.ServiceAccountKeyOrigin_USER_PROVIDED, public: public,
		cert: req.GetPublicKeyData(), validFrom: cert.NotBefore, validUntil: cert.NotAfter,
	}
	g.add(a, k, cert.Subject.CommonName)
	return k.proto(a), nil
}

// ListServiceAccountKeys shows new keys, and forgets deleted ones, ListLag late.
func (g *GoogleIAM) ListServiceAccountKeys(_ context.Context, req *adminpb.ListServiceAccountKeysRequest) (*adminpb.ListServiceAccountKeysResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, err := g.account(req.GetName())
	if err != nil {
		return nil, err
	}
	out := &adminpb.ListServiceAccountKeysResponse{}
	for _, k := range a.keys {
		p := k.proto(a)
		if k.listed(g.cloud.Now()) && (len(req.GetKeyTypes()) == 0 || slices.Contains(req.GetKeyTypes(), p.GetKeyType())) {
			out.Keys = append(out.Keys, p)
		}
	}
	return out, nil
}

// GetServiceAccountKey returns one key, with its certificate or public key if asked.
func (g *GoogleIAM) GetServiceAccountKey(_ context.Context, req *adminpb.GetServiceAccountKeyRequest) (*adminpb.ServiceAccountKey, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, k, err := g.key(req.GetName())
	if err != nil {
		return nil, err
	}
	out := k.proto(a)
	switch req.GetPublicKeyType() {
	case adminpb.ServiceAccountPublicKeyType_TYPE_X509_PEM_FILE:
		out.PublicKeyData = k.cert
	case adminpb.ServiceAccountPublicKeyType_TYPE_RAW_PUBLIC_KEY:
		der, err := x509.MarshalPKIXPublicKey(k.public)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		out.PublicKeyData = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return out, nil
}

// DisableServiceAccountKey makes the token endpoint refuse the key, RevocationLag late.
func (g *GoogleIAM) DisableServiceAccountKey(_ context.Context, req *adminpb.DisableServiceAccountKeyRequest) (*emptypb.Empty, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, k, err := g.key(req.GetName())
	if err != nil {
		return nil, err
	}
	if k.disabled && g.strict {
		return nil, errPrecondition()
	}
	g.disable(a, k)
	return &emptypb.Empty{}, nil
}

// EnableServiceAccountKey takes a disable back. A key that is refused by now propagates like a new one.
func (g *GoogleIAM) EnableServiceAccountKey(_ context.Context, req *adminpb.EnableServiceAccountKeyRequest) (*emptypb.Empty, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, k, err := g.key(req.GetName())
	if err != nil {
		return nil, err
	}
	if !k.disabled && g.strict {
		return nil, errPrecondition()
	}
	if k.disabled {
		now := g.cloud.Now()
		if !now.Before(k.refusedFrom) {
			k.acceptedFrom = now.Add(g.cloud.Timing().Propagation)
		}
		k.disabled, k.refusedFrom = false, time.Time{}
		g.cloud.Record(Event{Kind: KeyEnabled, Service: GoogleIAMService, Target: a.email, KeyID: k.id})
	}
	return &emptypb.Empty{}, nil
}

// DeleteServiceAccountKey removes the key for good. The token endpoint refuses it RevocationLag late.
func (g *GoogleIAM) DeleteServiceAccountKey(_ context.Context, req *adminpb.DeleteServiceAccountKeyRequest) (*emptypb.Empty, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, k, err := g.key(req.GetName())
	if err != nil {
		return nil, err
	}
	now, timing := g.cloud.Now(), g.cloud.Timing()
	k.deleted, k.unlistedFrom = true, now.Add(timing.ListLag)
	if k.refusedFrom.IsZero() {
		k.refusedFrom = now.Add(timing.RevocationLag)
	}
	g.cloud.Record(Event{Kind: KeyDeleted, Service: GoogleIAMService, Target: a.email, KeyID: k.id})
	return &emptypb.Empty{}, nil
}
