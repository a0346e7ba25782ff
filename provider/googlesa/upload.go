package googlesa

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

const (
	// clockSkew is how far certificates are dated back, so that Google takes them although our clock is ahead.
	clockSkew = 10 * time.Minute
	// certificateLife is longer than any key stays, but a forgotten one ends some day. Why it is not shorter is in
	// docs/providers/google-service-account.md: a certificate that ends takes the key that applications read with it.
	certificateLife = 10 * 365 * 24 * time.Hour
)

// upload makes an RSA key pair and gives Google its certificate. The pair is nowhere but in memory until Google has
// answered: a key whose upload was not answered is of no use to anybody, and is deleted by its stamp.
func (p *Provider) upload(ctx context.Context, account, stamp string) (provider.Minted, error) {
	what := "upload a key of " + account
	name, err := p.accountName(account, what)
	if err != nil {
		return provider.Minted{}, err
	}
	if _, ok := rotation.ParseStamp(stamp); !ok {
		return provider.Minted{}, fault.New(fault.Internal, "bad_stamp", p.doing(what))
	}
	key, err := rsa.GenerateKey(rand.Reader, p.opts.KeyBits)
	if err != nil {
		return provider.Minted{}, fault.New(fault.Internal, "bad_key_bits", p.doing(what)).WithAdvice("RSA keys have 1024 bits or more; 2048 is usual.")
	}
	cert, err := certificate(key, stamp, p.opts.Now())
	if err != nil {
		return provider.Minted{}, fault.New(fault.Internal, "bad_certificate", p.doing(what))
	}
	// Before the request: after it, a failure would leave a key without its file.
	text, err := writePrivateKey(key)
	if err != nil {
		return provider.Minted{}, fault.New(fault.Internal, "bad_private_key", p.doing(what))
	}
	limited, done := p.bounded(ctx)
	defer done()
	k, err := p.iam.UploadServiceAccountKey(limited, &adminpb.UploadServiceAccountKeyRequest{Name: name, PublicKeyData: cert})
	if err != nil {
		return provider.Minted{}, p.mintFault(ctx, err, what, account)
	}
	id := k.GetName()[strings.LastIndexByte(k.GetName(), '/')+1:]
	if !keyIDForm.MatchString(id) {
		f := fault.New(fault.Internal, "bad_answer", p.doing(what)).WithAdvice("Google's answer names no key. The key may be there now, with our stamp: look at %s.", fault.Link(p.Console(account)))
		f.Unsettled = true
		return provider.Minted{}, f
	}
	return provider.Minted{ID: id, Value: p.complete(id, account, text).value()}, nil
}

// certificate wraps the public key for Google, in PEM, with the stamp as common name. Google's reference: the
// certificate is X.509 v3, its subject generic, with nothing private in it.
func certificate(key *rsa.PrivateKey, stamp string, now time.Time) ([]byte, error) {
	// Without a serial number in the template, the standard library makes one.
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: stamp},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(certificateLife),
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
