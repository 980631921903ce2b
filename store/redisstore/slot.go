package redisstore

import (
	"strconv"
	"strings"
)

// redisSlots is how many slots a Cluster has.
const redisSlots = 16384

// redisSlot returns the slot in which a Cluster has the Redis key of that name.
func redisSlot(name string) int {
	return int(crc16(hashTag(name))) % redisSlots
}

// hashTag returns the part of a name that decides its slot.
func hashTag(name string) string {
	if _, after, found := strings.Cut(name, "{"); found {
		if tag, _, closed := strings.Cut(after, "}"); closed && tag != "" {
			return tag
		}
	}
	return name
}

// crc16 is the CRC of the polynomial 0x1021 that begins with zero: XMODEM's.
func crc16(s string) (crc uint16) {
	for i := range len(s) {
		crc ^= uint16(s[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// namePerSlot returns the name of a key in each slot; in its own, first. If prefix
// has a hash tag, there is no other name.
func namePerSlot(prefix, suffix, first string) *[redisSlots]string {
	names := new([redisSlots]string)
	names[redisSlot(first)] = first
	if hashTag(prefix) != prefix {
		return names
	}
	for i, missing := int64(0), redisSlots-1; missing > 0; i++ {
		name := prefix + "{" + strconv.FormatInt(i, 36) + "}" + suffix
		if at := &names[redisSlot(name)]; *at == "" {
			*at = name
			missing--
		}
	}
	return names
}
