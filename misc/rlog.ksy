# The envelope of rlog streams for Kaitai Struct (https://kaitai.io). The specification is rlog-format(5);
# tests/format.rs reads this file and walks the golden files with it.
meta:
  id: rlog
  title: rlog event stream, version 1
  file-extension: rlog
  license: MIT OR Apache-2.0
  endian: le
seq:
  - id: frames
    type: frame
    repeat: eos
types:
  frame:
    seq:
      - id: magic
        contents: [0x89, 0x52, 0x4c, 0x47]
      - id: version
        type: u1
      - id: kind
        type: u1
        enum: kind
      - id: flags
        type: u2
      - id: length
        type: u4
      - id: seq
        type: u4
      - id: id
        type: u8
      - id: salt
        type: u4
      - id: payload_crc
        type: u4
      - id: header_crc
        type: u4
      - id: payload
        size: length
        type:
          switch-on: kind
          cases:
            'kind::data': records
            _: fields
  records:
    seq:
      - id: records
        type: record
        repeat: eos
  record:
    seq:
      - id: kind
        type: u1
        enum: record_kind
      - id: length
        type: u4
      - id: body
        size: length
  fields:
    seq:
      - id: fields
        type: field
        repeat: eos
  field:
    seq:
      - id: tag
        type: u1
      - id: length
        type: leb128
      - id: value
        size: length.value
  leb128:
    seq:
      - id: groups
        type: u1
        repeat: until
        repeat-until: _ < 0x80
    instances:
      value:
        value: >-
          (groups[0] & 0x7f)
          + (groups.size > 1 ? (groups[1] & 0x7f) << 7 : 0)
          + (groups.size > 2 ? (groups[2] & 0x7f) << 14 : 0)
          + (groups.size > 3 ? (groups[3] & 0x7f) << 21 : 0)
enums:
  kind:
    1: stream
    2: definition
    3: begin
    4: data
    5: commit
    6: prepared
    7: progress
    8: heartbeat
    9: gap
    10: handover
    11: snapshot_begin
    12: snapshot_end
    13: end
    14: abort
    15: discard
    32: segment
    33: watermark
  record_kind:
    1: insert
    2: update
    3: delete
    4: statement
    5: ddl
    6: truncate
    7: load_block
    8: xa_decision
    128: annotate
    129: note
