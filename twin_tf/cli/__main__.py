"""`python -m twin_tf.cli`, the same as the command `twin-tf`."""

from twin_tf.cli.main import main

if __name__ == "__main__":
    main()
