package atmostonce_test

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/atmostonce/atmostonce"
)

// sealed is a Codec that keeps a store from reading what is kept: JSON, encrypted.
type sealed struct {
	atmostonce.JSON
	key [32]byte
}

func (s sealed) Encode(value any) ([]byte, error) {
	data, err := s.JSON.Encode(value)
	if err != nil {
		return nil, err
	}
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, data, nil), nil
}

func (s sealed) Decode(data []byte, ptr any) error {
	aead, err := s.aead()
	if err != nil {
		return err
	}
	if data, err = aead.Open(nil, nil, data, nil); err != nil {
		return errors.New("it is sealed with another key")
	}
	return s.JSON.Decode(data, ptr)
}

func (s sealed) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
