package googlesa

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

const (
	draftField = "rekey_draft"
	// certificateLife is longer than any key stays, but a forgotten one ends some day.
	certificateLife = 10 * 365 * 24 * time.Hour
)

// draft is a key pair that Google does not know yet. It says for which account it is and when it was made, so that
// every upload of it sends the same certificate.
type draft struct {
	Version    int       `json:"rekey_draft"`
	Account    string    `json:"account"`
	CreatedAt  time.Time `json:"created_at"`
	PrivateKey string    `json:"private_key"`
}

// Draft makes an RSA key pair; only in the mode Upload.
func (p *Provider) Draft(ctx context.Context, account string) (secret.Value, error) {
	if p.opts.Mode != Upload {
		return p.Unsupported.Draft(ctx, account)
	}
	what := "draft a key of " + account
	if _, err := p.accountName(account, what); err != nil {
		return secret.Value{}, err
	}
	key, err := rsa.GenerateKey(rand.Reader, p.opts.KeyBits)
	if err != nil {
		return secret.Value{}, fault.New(fault.Internal, "bad_key_bits", p.doing(what)).WithAdvice("RSA keys have 1024 bits or more; 2048 is usual.")
	}
	text, err := writePrivateKey(key)
	if err != nil {
		return secret.Value{}, fault.New(fault.Internal, "", p.doing(what))
	}
	out, err := json.Marshal(draft{Version: 1, Account: account, CreatedAt: p.opts.Now().UTC().Truncate(time.Second), PrivateKey: text})
	if err != nil {
		return secret.Value{}, fault.New(fault.Internal, "", p.doing(what))
	}
	return secret.New(out), nil
}

// Upload gives Google the certificate of a draft, with the stamp as common name; only in the mode Upload. It sends
// one request. Google's reference: the certificate is X.509 v3, its subject generic, with nothing private in it.
func (p *Provider) Upload(ctx context.Context, account, stamp string, v secret.Value) (provider.Minted, error) {
	if p.opts.Mode != Upload {
		return p.Unsupported.Upload(ctx, account, stamp, v)
	}
	what := "upload a key of " + account
	name, err := p.accountName(account, what)
	if err != nil {
		return provider.Minted{}, err
	}
	if _, ok := rotation.ParseStamp(stamp); !ok {
		return provider.Minted{}, fault.New(fault.Internal, "bad_stamp", p.doing(what))
	}
	d, key, err := p.readDraft(account, what, v)
	if err != nil {
		return provider.Minted{}, err
	}
	cert, err := d.certificate(key, stamp)
	if err != nil {
		return provider.Minted{}, fault.New(fault.Internal, "bad_draft", p.doing(what))
	}
	ctx, done := p.bounded(ctx)
	defer done()
	k, err := p.iam.UploadServiceAccountKey(ctx, &adminpb.UploadServiceAccountKeyRequest{Name: name, PublicKeyData: cert})
	if err != nil {
		return provider.Minted{}, p.fault(err, what, account, creates)
	}
	id := k.GetName()[strings.LastIndexByte(k.GetName(), '/')+1:]
	value, err := p.Complete(account, id, v)
	if err != nil {
		f := fault.New(fault.Internal, "bad_answer", p.doing(what)).WithAdvice("Google's answer names no key. The key may stand there now, with our stamp: look at %s.", p.Console(account))
		f.Unsettled = true
		return provider.Minted{}, f
	}
	return provider.Minted{ID: id, Value: value}, nil
}

// Complete gives the key file of a draft whose upload Google knows as keyID; only in the mode Upload. It asks
// nobody.
func (p *Provider) Complete(account, keyID string, v secret.Value) (secret.Value, error) {
	if p.opts.Mode != Upload {
		return p.Unsupported.Complete(account, keyID, v)
	}
	what := "complete a draft of " + account
	if _, err := p.keyName(account, keyID, what); err != nil {
		return secret.Value{}, err
	}
	d, _, err := p.readDraft(account, what, v)
	if err != nil {
		return secret.Value{}, err
	}
	return p.complete(keyID, account, d.PrivateKey).value(), nil
}

func (p *Provider) readDraft(account, what string, v secret.Value) (draft, *rsa.PrivateKey, error) {
	var d draft
	if json.Unmarshal([]byte(v.Reveal()), &d) != nil || d.Version != 1 {
		return draft{}, nil, fault.New(fault.Rejected, "bad_draft", p.doing(what)).WithAdvice("The value is no draft of a key pair.")
	}
	if d.Account != account {
		return draft{}, nil, fault.New(fault.Rejected, "wrong_account", p.doing(what)).WithAdvice("The draft was made for another account.")
	}
	key, _, ok := readPrivateKey(d.PrivateKey)
	if !ok {
		return draft{}, nil, fault.New(fault.Rejected, "bad_draft", p.doing(what)).WithAdvice("The draft's private key is damaged.")
	}
	return d, key, nil
}

// certificate wraps the public key for Google, in PEM. Everything in it follows from the draft and the stamp:
// Google does not document what a second upload of one key does, so at least it is the same upload.
func (d draft) certificate(key *rsa.PrivateKey, stamp string) ([]byte, error) {
	serial := sha256.Sum256(append(x509.MarshalPKCS1PublicKey(&key.PublicKey), stamp...))
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:16]),
		Subject:               pkix.Name{CommonName: stamp},
		NotBefore:             d.CreatedAt.Add(-clockSkew),
		NotAfter:              d.CreatedAt.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		SignatureAlgorithm:    x509.SHA256WithRSA,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
