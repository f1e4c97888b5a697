"""Files for programs that know nothing else: a drop folder, and SFTP to one at the hub.

`folder.DropFolder` takes whole files out of a folder and answers each with a file beside it; the dealer agent uses it on a
local folder, `server.SftpDoor` gives each point of sale one at the hub. Only `server` needs the extra `rocade[sftp]`.
"""

from rocade.doors.sftp.folder import Accepted, DropFolder, Given

__all__ = ["Accepted", "DropFolder", "Given"]
