"""`python -m rocade` is the `rocade` command."""

from rocade.app.cli import main

if __name__ == "__main__":
    main(prog_name="rocade")
