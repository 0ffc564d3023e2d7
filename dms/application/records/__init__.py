"""The history as others read it: streams, exports, descriptions, countersigned heads; retention and erasure end it."""
