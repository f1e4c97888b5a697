"""Applications: web applications that people of dealers open with the passkey they have here (this region as OpenID provider).

`Applications` keeps the register and gives codes and tokens; the door is `doors.http.openid_provider`. Decision:
docs/decisions/0042-dealers.md.
"""

from rocade.trust.authority.applications.model import Application, Asked, Consent, Given, Staff, StaffRole
from rocade.trust.authority.applications.service import Applications

__all__ = ["Application", "Applications", "Asked", "Consent", "Given", "Staff", "StaffRole"]
