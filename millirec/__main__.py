from millirec.main import main

main()
