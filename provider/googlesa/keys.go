package googlesa

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"google.golang.org/grpc/codes"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// accountName is the resource name of an account. The wildcard project is the last resort: with it Google answers
// 403 instead of 404 for what does not exist (Google's reference).
func (p *Provider) accountName(account, what string) (string, error) {
	if !emailForm.MatchString(account) {
		return "", fault.New(fault.Rejected, "bad_account", p.doing(what)).WithAdvice("The account must be the email of a service account: name@project.iam.gserviceaccount.com.")
	}
	project := projectOf(account)
	if project == "" {
		project = "-"
	}
	return "projects/" + project + "/serviceAccounts/" + account, nil
}

func (p *Provider) keyName(account, keyID, what string) (string, error) {
	name, err := p.accountName(account, what)
	if err != nil {
		return "", err
	}
	// An id ends up in a path: nothing but an id may.
	if !keyIDForm.MatchString(keyID) {
		return "", fault.New(fault.Rejected, "bad_key_id", p.doing(what)).WithAdvice("A key id of Google has 40 digits and letters a-f.")
	}
	return name + "/keys/" + keyID, nil
}

// List returns the user-managed keys. In the mode Upload it asks for the certificate of each uploaded key, whose
// common name is our stamp; an answer without all stamps would make our keys look foreign, so it is an error.
func (p *Provider) List(ctx context.Context, account string) ([]provider.Key, error) {
	what := "list keys of " + account
	listed, err := p.listed(ctx, account, what)
	if err != nil {
		return nil, err
	}
	var keys []provider.Key
	var denied error
	var readable bool
	for _, k := range listed {
		key := provider.Key{ID: k.GetName()[strings.LastIndexByte(k.GetName(), '/')+1:], CreatedAt: k.GetValidAfterTime().AsTime(), Disabled: k.GetDisabled()}
		// Google says of a key without expiry that it ends with the year 9999.
		if until := k.GetValidBeforeTime().AsTime(); k.GetValidBeforeTime() != nil && until.Year() < 9999 {
			key.ExpiresAt = until
		}
		if p.opts.Mode == Upload && uploaded(k) {
			stamp, found, err := p.stamp(ctx, k.GetName(), what, account)
			switch {
			case fault.Is(err, fault.AccessDenied):
				denied = err
			case err != nil:
				return nil, err
			}
			readable = readable || found
			if key.Stamp = stamp; stamp != "" {
				// The certificate was dated back.
				key.CreatedAt = key.CreatedAt.Add(clockSkew)
			}
		}
		keys = append(keys, key)
	}
	// Some see a 403 for a key that is gone. It is that if rekey may read another one.
	if denied != nil && !readable && !p.mayRead(ctx, listed) {
		return nil, denied
	}
	return keys, nil
}

func uploaded(k *adminpb.ServiceAccountKey) bool {
	return k.GetKeyOrigin() == adminpb.ServiceAccountKeyOrigin_USER_PROVIDED
}

// listed asks for the user-managed keys.
func (p *Provider) listed(ctx context.Context, account, what string) ([]*adminpb.ServiceAccountKey, error) {
	name, err := p.accountName(account, what)
	if err != nil {
		return nil, err
	}
	ctx, done := p.bounded(ctx)
	defer done()
	answer, err := p.iam.ListServiceAccountKeys(ctx, &adminpb.ListServiceAccountKeysRequest{
		Name: name, KeyTypes: []adminpb.ListServiceAccountKeysRequest_KeyType{adminpb.ListServiceAccountKeysRequest_USER_MANAGED},
	})
	if err != nil {
		return nil, p.fault(err, what, account, reads)
	}
	return answer.GetKeys(), nil
}

// count is how many keys the list shows of those that the limit counts.
func (p *Provider) count(ctx context.Context, account string) (n int, known bool) {
	keys, err := p.listed(ctx, account, "count keys of "+account)
	return len(keys), err == nil
}

// mayRead reports whether Google returns any of the keys that were not uploaded.
func (p *Provider) mayRead(ctx context.Context, listed []*adminpb.ServiceAccountKey) bool {
	for _, k := range listed {
		if uploaded(k) {
			continue
		}
		if _, err := p.get(ctx, k.GetName()); err == nil {
			return true
		}
	}
	return false
}

// stamp reads the common name of a key's certificate. A key that is listed but cannot be had is just being made
// or deleted; it has no stamp for now, and is not found. Google reports that as NotFound, or, as some have seen, as a
// precondition of a read, which has none.
func (p *Provider) stamp(ctx context.Context, name, what, account string) (stamp string, found bool, err error) {
	ctx, done := p.bounded(ctx)
	defer done()
	k, err := p.iam.GetServiceAccountKey(ctx, &adminpb.GetServiceAccountKeyRequest{
		Name: name, PublicKeyType: adminpb.ServiceAccountPublicKeyType_TYPE_X509_PEM_FILE,
	})
	if err != nil {
		f := p.fault(err, what, account, reads)
		if f.Class == fault.NotFound || f.Code == codes.FailedPrecondition.String() {
			return "", false, nil
		}
		return "", false, f
	}
	block, _ := pem.Decode(k.GetPublicKeyData())
	if block == nil {
		return "", true, nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		// Somebody else's key in a form that we do not read.
		return "", true, nil
	}
	if _, ours := rotation.ParseStamp(cert.Subject.CommonName); !ours {
		return "", true, nil
	}
	return cert.Subject.CommonName, true, nil
}

// Mint makes a key with one request. In the mode Upload, Google keeps the stamp with the key. In the mode Create it
// keeps none, and the stamp is not used.
func (p *Provider) Mint(ctx context.Context, account, stamp string) (provider.Minted, error) {
	if p.opts.Mode == Upload {
		return p.upload(ctx, account, stamp)
	}
	return p.create(ctx, account)
}

// create lets Google make the key pair, and takes it from the answer.
func (p *Provider) create(ctx context.Context, account string) (provider.Minted, error) {
	what := "create a key of " + account
	name, err := p.accountName(account, what)
	if err != nil {
		return provider.Minted{}, err
	}
	limited, done := p.bounded(ctx)
	defer done()
	k, err := p.iam.CreateServiceAccountKey(limited, &adminpb.CreateServiceAccountKeyRequest{
		Name:           name,
		PrivateKeyType: adminpb.ServiceAccountPrivateKeyType_TYPE_GOOGLE_CREDENTIALS_FILE,
		KeyAlgorithm:   adminpb.ServiceAccountKeyAlgorithm_KEY_ALG_RSA_2048,
	})
	if err != nil {
		return provider.Minted{}, p.mintFault(ctx, err, what, account)
	}
	parsed, err := p.Parse(secret.New(k.GetPrivateKeyData()))
	if err != nil || parsed.Account != account || !strings.HasSuffix(k.GetName(), "/keys/"+parsed.KeyID) {
		// The key exists, but what came with it is not its file.
		f := fault.New(fault.Internal, "bad_answer", p.doing(what)).WithAdvice("Google's answer is not a key file of this account. A key without an owner may be there now: look at %s.", fault.Link(p.Console(account)))
		f.Unsettled = true
		return provider.Minted{}, f
	}
	return provider.Minted{ID: parsed.KeyID, Value: parsed.Value}, nil
}

// Disable makes Google refuse the key until Enable. A NotFound fault says that there is no such key, or that Google does
// not show it yet. Google disables keys that it finds in public by itself, so that a key may be disabled already.
func (p *Provider) Disable(ctx context.Context, account, keyID string) error {
	return p.set(ctx, "disable", account, keyID, true, func(ctx context.Context, name string) error {
		return p.iam.DisableServiceAccountKey(ctx, &adminpb.DisableServiceAccountKeyRequest{Name: name})
	})
}

// Enable takes Disable back. NotFound is as with Disable.
func (p *Provider) Enable(ctx context.Context, account, keyID string) error {
	return p.set(ctx, "enable", account, keyID, false, func(ctx context.Context, name string) error {
		return p.iam.EnableServiceAccountKey(ctx, &adminpb.EnableServiceAccountKeyRequest{Name: name})
	})
}

// set is change to a state. Whether Google refuses one that the key is in already is not documented, so a refusal
// is looked into.
func (p *Provider) set(ctx context.Context, verb, account, keyID string, disabled bool, request func(context.Context, string) error) error {
	err := p.change(ctx, verb, account, keyID, request)
	if !fault.Is(err, fault.Rejected) || fault.Of(err).Code != codes.FailedPrecondition.String() {
		return err
	}
	name, nameError := p.keyName(account, keyID, verb)
	if nameError != nil {
		return err
	}
	if k, getError := p.get(ctx, name); getError == nil && k.GetDisabled() == disabled {
		return nil
	}
	return err
}

// get asks for a key without its certificate.
func (p *Provider) get(ctx context.Context, name string) (*adminpb.ServiceAccountKey, error) {
	ctx, done := p.bounded(ctx)
	defer done()
	return p.iam.GetServiceAccountKey(ctx, &adminpb.GetServiceAccountKeyRequest{Name: name})
}

// Delete removes the key for good. NotFound is as with Disable. Access tokens that were issued before live on for up to an
// hour (Google's docs).
func (p *Provider) Delete(ctx context.Context, account, keyID string) error {
	return p.change(ctx, "delete", account, keyID, func(ctx context.Context, name string) error {
		return p.iam.DeleteServiceAccountKey(ctx, &adminpb.DeleteServiceAccountKeyRequest{Name: name})
	})
}

func (p *Provider) change(ctx context.Context, verb, account, keyID string, request func(context.Context, string) error) error {
	what := verb + " key " + keyID + " of " + account
	if !keyIDForm.MatchString(keyID) {
		// Whatever it is, it may be a secret that went astray.
		what = verb + " a key of " + account
	}
	name, err := p.keyName(account, keyID, what)
	if err != nil {
		return err
	}
	ctx, done := p.bounded(ctx)
	defer done()
	if err := request(ctx, name); err != nil {
		return p.fault(err, what, account, changes)
	}
	return nil
}
